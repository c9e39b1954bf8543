internal import CKernels

/// The element-wise loops for a storage type on this processor.
func kernels(_ dtype: DType) -> UnsafePointer<graft_kernel_table> { dtype == .f32 ? f32Kernels : bf16Kernels }

// Constant tables in the program's image.
nonisolated(unsafe) private let f32Kernels = graft_kernels_f32()!
nonisolated(unsafe) private let bf16Kernels = graft_kernels_bf16()!

/// The instruction set of the element-wise loops: "avx512bf16", "avx512", "avx2" or "baseline".
public var instructionSet: String { String(cString: graft_kernels_name()) }

/// Whether bf16 products run at speed on this processor with the libraries at hand.
public var hasFastBF16: Bool { graft_has_fast_bf16() != 0 && Matmul.supportsBF16 }

/// Whether bf16 products exist at all with the libraries at hand.
public var supportsBF16Products: Bool { Matmul.supportsBF16 }

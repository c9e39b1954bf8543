internal import CKernels

/// The element-wise loops for a storage type on this processor.
func kernels(_ dtype: DType) -> UnsafePointer<graft_kernel_table> { dtype == .f32 ? f32Kernels : bf16Kernels }

// Constant tables in the program's image.
nonisolated(unsafe) private let f32Kernels = graft_kernels_f32()!
nonisolated(unsafe) private let bf16Kernels = graft_kernels_bf16()!

/// y = W x for one x, `[rows, n]` and `[n]`, sums in f32.
func matrixVector(_ dtype: DType) -> graft_matrix_vector { dtype == .f32 ? f32MatrixVector : bf16MatrixVector }

private let f32MatrixVector = graft_matrix_vector_for(0)!
private let bf16MatrixVector = graft_matrix_vector_for(1)!

/// The instruction set of the element-wise loops: "avx512bf16", "avx512", "avx2" or "baseline".
public var instructionSet: String { String(cString: graft_kernels_name()) }

/// Whether bf16 products run at speed on this processor with the libraries at hand.
public var hasFastBF16: Bool { graft_has_fast_bf16() != 0 && Matmul.supportsBF16 }

/// Whether bf16 products exist at all with the libraries at hand.
public var supportsBF16Products: Bool { Matmul.supportsBF16 }

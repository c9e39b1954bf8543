// swift-tools-version: 6.2
import Foundation
import PackageDescription

// scripts/fuzz sets it: the modules are then instrumented to tell their coverage, and the fuzzer is a target too.
let isFuzzing = ProcessInfo.processInfo.environment["GRAFT_FUZZ"] == "1"

let swiftSettings: [SwiftSetting] =
    [
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("MemberImportVisibility"),
        .enableUpcomingFeature("InternalImportsByDefault"),
    ] + (isFuzzing ? [.unsafeFlags(["-sanitize=fuzzer", "-enable-testing"])] : [])

let fuzzTargets: [Target] =
    isFuzzing
    ? [
        .target(name: "CFuzz", path: "Fuzz/CFuzz"),
        .executableTarget(
            name: "fuzz", dependencies: ["CFuzz", "Export", "FineTuning", "TextData", "FileFormats"], path: "Fuzz/fuzz",
            swiftSettings: swiftSettings + [.unsafeFlags(["-parse-as-library"])],
            linkerSettings: [.unsafeFlags(["-sanitize=fuzzer"])]),
    ] : []

// Products run in oneDNN; where it is not installed, in OpenBLAS (f32 only).
let hasOneDNN = ["/usr/include", "/usr/local/include"].contains {
    FileManager.default.fileExists(atPath: $0 + "/oneapi/dnnl/dnnl.h")
}
let oneDNNTarget: [Target] = hasOneDNN ? [.systemLibrary(name: "COneDNN", providers: [.apt(["libdnnl-dev"])])] : []

let package = Package(
    name: "graft",
    products: [.executable(name: "graft", targets: ["graft"])],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: oneDNNTarget + fuzzTargets + [
        .systemLibrary(name: "COpenBLAS", pkgConfig: "openblas", providers: [.apt(["libopenblas-dev"])]),
        .systemLibrary(name: "CHDF5", pkgConfig: "hdf5", providers: [.apt(["libhdf5-dev"])]),
        .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
        .systemLibrary(name: "COniguruma", pkgConfig: "oniguruma", providers: [.apt(["libonig-dev"])]),

        // The kernels are C so that one portable binary can choose its instruction set at run time.
        .target(name: "CKernels", cSettings: [.unsafeFlags(["-O3", "-fno-math-errno", "-mprefer-vector-width=512"])]),
        // The process and its machine: signals, threads, standard streams, limits.
        .target(name: "CHost"),
        .target(name: "Host", dependencies: ["CHost"], swiftSettings: swiftSettings),
        // Compute is optimised in debug builds too: unoptimised it is fifty times slower.
        .target(
            name: "TensorCore", dependencies: ["CKernels", "Host", "COpenBLAS"] + (hasOneDNN ? ["COneDNN"] : []),
            swiftSettings: swiftSettings + [.unsafeFlags(["-O"], .when(configuration: .debug))]),
        .target(
            name: "FileFormats",
            dependencies: ["Host", "CHDF5", "CZstd", "CZlib", .product(name: "Crypto", package: "swift-crypto")],
            swiftSettings: swiftSettings),
        .target(name: "TextData", dependencies: ["Host", "FileFormats", "COniguruma"], swiftSettings: swiftSettings),
        .target(
            name: "FineTuning",
            dependencies: [
                "CKernels", "Host", "TensorCore", "FileFormats", "TextData", .product(name: "Yams", package: "Yams"),
            ],
            swiftSettings: swiftSettings),
        .target(
            name: "Export", dependencies: ["Host", "FineTuning", "FileFormats", "TextData", "TensorCore", "CKernels"],
            swiftSettings: swiftSettings),
        .executableTarget(
            name: "graft",
            dependencies: [
                "Host", "Export", "FineTuning", "TextData", "FileFormats", "TensorCore",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: swiftSettings),
        // Seeded generators of the shipped base's corpus and of the sample jobs.
        .executableTarget(
            name: "corpus",
            dependencies: [.product(name: "ArgumentParser", package: "swift-argument-parser")],
            swiftSettings: swiftSettings),

        .testTarget(
            name: "TensorCoreTests", dependencies: ["Host", "TensorCore", "CKernels"],
            swiftSettings: swiftSettings + [.unsafeFlags(["-O"], .when(configuration: .debug))]),
        .testTarget(name: "CorpusTests", dependencies: ["corpus"], swiftSettings: swiftSettings),
        .testTarget(name: "FileFormatsTests", dependencies: ["Host", "FileFormats"], swiftSettings: swiftSettings),
        .testTarget(name: "TextDataTests", dependencies: ["TextData", "FileFormats"], swiftSettings: swiftSettings),
        .testTarget(
            name: "FineTuningTests", dependencies: ["Host", "Export", "FineTuning", "TensorCore", "TextData", "FileFormats"],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "ExportTests",
            dependencies: ["Export", "CKernels", "FineTuning", "TextData", "FileFormats", "TensorCore"],
            swiftSettings: swiftSettings),
        // Runs the built program, as a user or a script does.
        .testTarget(
            name: "CommandLineTests", dependencies: ["graft", "Host", "FileFormats"], swiftSettings: swiftSettings),
    ]
)

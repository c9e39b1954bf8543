import CFuzz
import Foundation

/// The fuzzer for one reader: `fuzz --reader=NAME`, then libFuzzer's own arguments.
///
/// `--seeds=FOLDER` writes sound inputs for every reader and ends; `--list` prints the readers' names.
nonisolated(unsafe) private var reader = Reader.json
nonisolated(unsafe) private var record: UnsafeMutablePointer<fuzz_record> = fuzz_map_record(nil)
/// How much slower than the program itself this build may be.
nonisolated(unsafe) private var slowness = 1.0
/// Whether accepted and refused inputs are told: for single inputs.
nonisolated(unsafe) private var isVerbose = false

/// Whether every input is read swollen, too.
nonisolated(unsafe) private var isAlwaysSwollen = false

@_cdecl("LLVMFuzzerInitialize")
public func initialize(
    _ count: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>
) -> CInt {
    fuzz_use_signal_stack()
    let environment = ProcessInfo.processInfo.environment
    record = fuzz_map_record(environment["GRAFT_FUZZ_RECORD"])
    slowness = environment["GRAFT_FUZZ_SLOWNESS"].flatMap(Double.init) ?? 1
    isVerbose = environment["GRAFT_FUZZ_VERBOSE"] != nil
    if let size = environment["GRAFT_FUZZ_SWELL"].flatMap(Int.init) {
        isAlwaysSwollen = true
        Swelling.size = size
    }
    var isChosen = false
    for argument in CommandLine.arguments.dropFirst() {
        if argument == "--list" {
            for reader in Reader.allCases { print(reader.rawValue, reader.longestInput, reader.goal) }
            exit(0)
        }
        if argument.hasPrefix("--seeds=") {
            do { try writeSeeds(to: String(argument.dropFirst(8))) } catch {
                FileHandle.standardError.write(Data("fuzz: \(error)\n".utf8))
                exit(74)
            }
            exit(0)
        }
        guard argument.hasPrefix("--reader=") else { continue }
        guard let named = Reader(rawValue: String(argument.dropFirst(9))) else {
            FileHandle.standardError.write(Data("fuzz: no reader named \(argument.dropFirst(9)); see --list\n".utf8))
            exit(64)
        }
        reader = named
        isChosen = true
    }
    guard isChosen else {
        FileHandle.standardError.write(Data("fuzz: give --reader=NAME; --list prints the names\n".utf8))
        exit(64)
    }
    // What is made once does not count for the first input.
    Fixed.prepare()
    return 0
}

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    fuzz_note_input(record, start, UInt64(count))
    read(bytes, unpacked: bytes.count)
    var hash = Hash()
    for byte in bytes { hash.add(byte) }
    // Large inputs cost much time, so few are made; what fails is made again from the input that libFuzzer keeps.
    if isAlwaysSwollen || hash.state % 1024 == 0, count > 0,
        let (swollen, unpacked) = Swelling(hash.state).swell(bytes, for: reader)
    {
        read(swollen, unpacked: unpacked)
    }
    return 0
}

/// Bytes of memory of an input: what is promised, beside some for each byte that is read.
private let fixedBytes: Int64 = 64 << 20
/// CPU time of an input: a second, and some for each byte that is read.
private let fixedSeconds = 1.0
private let secondsPerByte = 4e-6
/// CPU time of each byte that comes out of a compressed file.
private let secondsPerUnpackedByte = 5e-8

/// Has the reader read an input, and measures it.
private func read(_ bytes: [UInt8], unpacked: Int) {
    let count = bytes.count
    let began = fuzz_cpu_nanoseconds()
    fuzz_start_counting()
    var isAccepted = false
    do {
        isAccepted = try reader.read(bytes)
        if isVerbose { print("accepted") }
    } catch {
        // The error's text is part of what a user sees: to make it must not fail either.
        let text = "\(error)"
        if isVerbose { print("refused:", text) }
        require(!text.isEmpty, "an error without words")
    }
    let used = fuzz_most_bytes()
    let time = fuzz_cpu_nanoseconds() - began
    record.pointee.inputs += 1
    if isAccepted { record.pointee.accepted += 1 }
    record.pointee.most_bytes = max(record.pointee.most_bytes, UInt64(max(0, used)))
    record.pointee.most_nanoseconds = max(record.pointee.most_nanoseconds, UInt64(max(0, time)))
    let seconds = Double(time) / 1e9
    if isVerbose { print("\(count) bytes (\(unpacked) unpacked): \(seconds) s, \(used) bytes of memory") }
    if used > fixedBytes + reader.bytesPerByte * Int64(count) {
        fail("took \(used >> 20) MiB of memory for \(count) bytes of input")
    }
    if seconds > slowness * (fixedSeconds + secondsPerByte * Double(count) + secondsPerUnpackedByte * Double(unpacked))
    {
        fail("took \(seconds) seconds of CPU time for \(count) bytes of input")
    }
}

/// Ends the process so that libFuzzer keeps the input.
func fail(_ reason: String) -> Never {
    FileHandle.standardError.write(Data("==FUZZ== \(reader.rawValue): \(reason)\n".utf8))
    abort()
}

/// Checks what must hold for every input that is read.
func require(_ condition: Bool, _ reason: @autoclosure () -> String = "a check failed", line: Int = #line) {
    if !condition { fail("\(reason()) (line \(line))") }
}

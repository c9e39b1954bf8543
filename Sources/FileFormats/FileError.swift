import Foundation

/// Why a file could not be read or written.
///
/// Faults inside a format are one case per format, each with its own enum of the ways such a file can be wrong.
public enum FileError: GraftError {
    /// Nothing stands at `path`; `what` says what was expected there.
    case missing(path: String, what: String)
    /// A system call failed with `code` (errno).
    case io(operation: String, path: String, code: Int32)
    /// The output stands already and overwriting was not asked for.
    case outputExists(path: String)
    /// Another process works on the same output.
    case locked(path: String, holder: Int32?)
    /// A file is larger than anything of its kind has reason to be; sizes in bytes.
    case tooLarge(path: String, size: Int, limit: Int)
    /// A folder, device or pipe stands where a plain file was expected.
    case notAFile(path: String)
    /// A file stands where a folder was expected.
    case notAFolder(path: String)
    /// The file was cut or grew while it was in use; sizes in bytes.
    case changed(path: String, expected: Int, found: Int)
    /// Something else stands in the file's place, as downloads leave it.
    case substitute(path: String, Substitute)
    /// The file is not the JSON it should be.
    case json(path: String, JSONError)
    case safetensors(path: String, SafetensorsFault)
    case gguf(path: String, GGUFFault)
    case zstd(ZstdFault)
    /// Compressed data that do not unpack.
    case compressed(kind: String, reason: String)
    case parquet(path: String, ParquetFault)
    /// A token store that is damaged or not one.
    case tokenStore(path: String, reason: String)
    /// Everything that is wrong with a model folder, all at once.
    case modelFolder(path: String, [ModelFolderFault])

    public var exitStatus: ExitStatus {
        switch self {
        case .missing: .missingInput
        case .io: .io
        case .outputExists, .locked: .outputExists
        case .tooLarge, .notAFile, .notAFolder, .substitute, .json, .safetensors, .gguf, .zstd, .compressed, .parquet,
            .tokenStore:
            .badInput
        case .changed: .io
        case .modelFolder(_, let faults):
            faults.allSatisfy(\.isMissingFile) ? .missingInput : .badInput
        }
    }

    public var problems: [String] {
        if case .modelFolder(_, let faults) = self { faults.map(\.description) } else { [] }
    }

    public var description: String {
        switch self {
        case .missing(let path, let what):
            "\(path): no such \(what)\n  \(MissingPath(path).nextStep)"
        case .io(let operation, let path, let code):
            "\(path): cannot \(operation): \(Self.text(ofCode: code)) (errno \(code))\(Self.hint(forCode: code))"
        case .outputExists(let path):
            "\(path): the output exists already and is left as it is\n  remove it, or choose another output"
        case .locked(let path, let holder):
            "\(path): in use by \(holder.map { "process \($0)" } ?? "another process")"
                + "\n  wait until it ends, or choose another output"
        case .tooLarge(let path, let size, let limit):
            "\(path): \(size) bytes, more than the \(limit) bytes that a file of this kind may have"
        case .notAFile(let path):
            "\(path): not a plain file\n  give the path of a file; rows may come through standard input, as '-'"
        case .notAFolder(let path): "\(path): a file, where a folder is expected\n  give the folder, such as a model's"
        case .changed(let path, let expected, let found):
            "\(path): the file changed while it was read: it had \(expected) bytes and now has \(found)"
                + "\n  run again once nothing writes to it"
        case .substitute(let path, let substitute): "\(path): \(substitute)"
        case .json(let path, let error): "\(path): \(error)"
        case .safetensors(let path, let fault):
            "\(path): \(fault)\n  \(fault.nextStep)"
        case .gguf(let path, let fault):
            "\(path): \(fault)\n  the file is damaged or no GGUF file; fetch or write it again"
        case .zstd(let fault): "compressed data: \(fault)"
        case .compressed(let kind, let reason):
            "\(kind) data: \(reason)\n  the file is damaged or cut short; fetch or write it again"
        case .parquet(let path, let fault):
            "\(path): \(fault)\n  write the file again, or give the rows as JSON lines"
        case .tokenStore(let path, let reason):
            "\(path): no usable token store: \(reason)\n  write it again with 'graft tokenize'"
        case .modelFolder(let path, let faults):
            "\(path): not a model folder that can be read:" + faults.map { "\n  \($0)" }.joined()
        }
    }

    private static func text(ofCode code: Int32) -> String {
        var buffer = [CChar](repeating: 0, count: 256)
        // Both signatures of strerror_r exist; `strerror` is enough because the text is copied at once.
        guard let text = strerror(code) else { return "unknown error" }
        strncpy(&buffer, text, buffer.count - 1)
        return String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    private static func hint(forCode code: Int32) -> String {
        switch code {
        case ENOSPC, EDQUOT:
            "\n  free some space on that disk and run again ('graft train' goes on with --resume); nothing half-"
                + "written is left behind"
        case EACCES, EPERM, EROFS: "\n  check the permissions, or choose another place"
        case ENOENT: "\n  create the parent folder first"
        case EMFILE, ENFILE: "\n  raise the limit of open files (ulimit -n) and run again"
        case ENOMEM: "\n  raise the limit of address space (ulimit -v), or free some memory"
        case ENAMETOOLONG: "\n  names have 255 bytes at most; choose a shorter one"
        default: ""
        }
    }

    /// The error of a failed call that *reads*: a path that is not there is missing input, anything else is I/O.
    static func reading(_ operation: String, _ path: String, what: String, code: Int32 = errno) -> FileError {
        code == ENOENT || code == ENOTDIR
            ? .missing(path: path, what: what)
            : .io(operation: operation, path: path, code: code)
    }
}

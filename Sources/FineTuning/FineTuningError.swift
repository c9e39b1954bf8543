public import FileFormats

/// What can be wrong with a model, an adapter or a run.
public enum FineTuningError: GraftError {
    /// `config.json` describes something that graft does not compute, or is inconsistent.
    case unsupportedModel(path: String, problems: [String])
    /// The checkpoint's tensors are not those that the configuration asks for.
    case weightMismatch(path: String, problems: [String])
    /// Weights that another program quantised; `method` is its name where one is known, `found` a tensor that shows it.
    case quantizedCheckpoint(path: String, method: String?, found: String)
    /// An adapter folder that cannot be read, or that does not fit the base.
    case adapterMismatch(path: String, problems: [String])
    /// An adapter folder that is none that graft reads, whatever the base; `next` says what to do.
    case badAdapter(path: String, problems: [String], next: String)
    /// The recipe asks for something that the model or the data cannot give.
    case badRecipe([String])
    /// Token ids or labels that the model cannot take.
    case badInput([String])
    /// The run was asked to stop; it has saved a checkpoint at `step`.
    case stopped(step: Int, runDirectory: String)
    /// A command was asked to stop; what it did stays for its next run.
    case interrupted(command: String)
    /// The output stands already, and is another than what is asked for.
    case outputDiffers(path: String, reasons: [String])
    /// Loss or gradient was not a number for several steps in a row.
    case diverged(step: Int?, detail: String)
    /// A checkpoint that is damaged or belongs to another run.
    case checkpoint(path: String, problems: [String])

    public var exitStatus: ExitStatus {
        switch self {
        case .unsupportedModel, .weightMismatch, .quantizedCheckpoint, .adapterMismatch, .badAdapter, .badInput,
            .checkpoint:
            .badInput
        case .badRecipe: .badRecipe
        case .stopped, .interrupted: .stopped
        case .outputDiffers: .outputExists
        case .diverged: .internal
        }
    }

    public var problems: [String] {
        switch self {
        case .unsupportedModel(_, let problems), .weightMismatch(_, let problems), .adapterMismatch(_, let problems),
            .badAdapter(_, let problems, _), .badRecipe(let problems), .badInput(let problems),
            .outputDiffers(_, let problems),
            .checkpoint(_, let problems):
            problems
        case .quantizedCheckpoint, .stopped, .interrupted, .diverged: []
        }
    }

    public var description: String {
        func list(_ head: String, _ problems: [String], _ next: String) -> String {
            ([head] + problems.map { "  - " + $0 } + [next]).joined(separator: "\n")
        }
        switch self {
        case .unsupportedModel(let path, let problems):
            return list(
                "\(path): graft cannot run this model:", problems, "Use a supported model or mend its config.json.")
        case .weightMismatch(let path, let problems):
            return list(
                "\(path): the weights do not fit config.json:", problems,
                "Use the config.json that belongs to these weights; where files are incomplete, fetch the model again.")
        case .quantizedCheckpoint(let path, let method, let found):
            return
                "\(path): the weights are quantised\(method.map { " with \($0)" } ?? "") (\(found)), and graft computes "
                + "with weights in f32, f16 or bf16\nUse the original weights, or a GGUF file of the model, which graft "
                + "reads in all its types."
        case .adapterMismatch(let path, let problems):
            return list(
                "\(path): the adapter cannot be used with this model:", problems,
                "Use the base model that the adapter was trained on (base_model_name_or_path in adapter_config.json).")
        case .badAdapter(let path, let problems, let next):
            return list("\(path): graft cannot read this adapter:", problems, next)
        case .badRecipe(let problems):
            return list("the recipe does not fit:", problems, "Correct the recipe and run the command again.")
        case .badInput(let problems):
            return list("the input cannot be used:", problems, "Correct the data and run the command again.")
        case .stopped(let step, let directory):
            return "stopped on request after step \(step); 'graft train ... --resume' goes on from \(directory)"
        case .interrupted(let command):
            return "stopped on request; \(command) again goes on where it was"
        case .outputDiffers(let path, let reasons):
            return list(
                "\(path): the output exists already, made otherwise, and is left as it is:", reasons,
                "Remove it, or choose another output.")
        case .diverged(let step, let detail):
            return (step.map { "step \($0)" } ?? "after the last step")
                + ": \(detail)\nLower training.learning_rate or look at the rows that metrics.jsonl names."
        case .checkpoint(let path, let problems):
            return list("\(path): the checkpoint cannot be resumed:", problems, "Start anew in another output folder.")
        }
    }
}

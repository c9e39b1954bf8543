public import TextData

/// A fine-tuning run as its YAML file describes it, with every default filled in and every path resolved.
///
/// ```yaml
/// model: models/base
/// output: runs/name
/// data:
///   train: [{path: data/train.jsonl}]
/// ```
/// All other keys have defaults, the ones of the initialisers below. Relative paths are relative to the recipe file's
/// folder, those of `--set` overrides too.
public struct Recipe: Sendable, Equatable {
    public var model: Model
    /// The run directory.
    public var output: String
    public var adapter = Adapter()
    public var objective = Objective.sft
    public var data: Data
    public var training = Training()
    /// Where the recipe was read from.
    public var path: String

    /// What a run starts from.
    public enum Model: Sendable, Equatable {
        /// A Hugging Face model folder.
        case folder(String)
        /// Random weights in the shape of a `config.json`, with the tokenizer of a folder or file if one is named.
        case initial(config: String, tokenizer: String?)
    }

    public struct Adapter: Sendable, Equatable {
        public enum Method: String, Sendable, CaseIterable { case lora, full }
        public enum Targets: Sendable, Equatable {
            /// Every linear module but the head.
            case allLinear
            /// Modules whose name is one of these or ends in `.` and one of these.
            case names([String])
            /// A regular expression that matches a module's whole name.
            case pattern(String)
        }
        public var method = Method.lora
        public var rank = 16
        public var alpha = 32.0
        public var dropout = 0.0
        public var targets = Targets.allLinear
        /// An adapter folder to go on training; rank, alpha and targets then come from it.
        public var initFrom: String?
        /// Further settings, under PEFT's names.
        public var options = AdapterOptions()
        /// LoRA+ (arXiv:2402.12354): the learning rate of B over that of A; nil for one rate.
        public var loraPlusRatio: Double?
        /// With LoRA+, the learning rate of updates of the embedding.
        public var loraPlusEmbeddingRate = 1.0e-6
        public init() {}
    }

    public struct Data: Sendable, Equatable {
        public enum TrainOn: String, Sendable, CaseIterable { case assistant, last, all }
        public enum Overlong: String, Sendable, CaseIterable { case error, drop, truncate, split }
        public var train: [Source]
        public var eval: [Source] = []
        public var trainOn = TrainOn.assistant
        /// Tokens of the longest sequence.
        public var maxLength = 1024
        public var overlong = Overlong.error
        public var shuffle = true
        /// Makes small sources larger, see `SourceMixture`.
        public var mixTemperature = 1.0
        /// The most times that a source is repeated, whatever its weight and the temperature; nil sets no cap.
        public var maxRepeats: Double?
        /// Rows that are left out because an earlier one is the same or nearly so.
        public var dedupe = Deduplication.none
        /// What all rows have to be; nil tells it by their keys.
        public var format: RowShape?
        /// Names that the files have for keys of rows.
        public var columns: [ColumnName] = []
        /// Damage to rows that is taken as it is.
        public var accept: [Lint] = []
        public init(train: [Source]) { self.train = train }

        var mixture: SourceMixture {
            SourceMixture(weights: train.map(\.weight), temperature: mixTemperature, maxRepeats: maxRepeats)
        }
    }

    /// Rows: a file, a glob or a token store.
    public struct Source: Sendable, Equatable {
        public var path: String
        /// How often the rows are seen in an epoch, relative to those of other sources.
        public var weight: Double
        public init(path: String, weight: Double = 1) {
            self.path = path
            self.weight = weight
        }
    }

    public struct Training: Sendable, Equatable {
        public enum Length: Sendable, Equatable {
            /// Passes over the training rows.
            case epochs(Double)
            /// Optimiser steps.
            case steps(Int)
        }
        public enum MicrobatchTokens: Sendable, Equatable {
            case auto
            case tokens(Int)
        }
        /// Rows of an evaluation.
        public enum EvalRows: Sendable, Equatable {
            /// As many as keep all evaluations within about a hundredth of the run, and the last one within another.
            case auto
            case all
            /// So many during the run, and all after the last step.
            case count(Int)
        }
        public enum Schedule: String, Sendable, CaseIterable { case constant, linear, cosine }
        public enum Precision: String, Sendable, CaseIterable { case auto, f32, bf16 }
        public enum Checkpointing: Sendable, Equatable {
            case auto
            case on
            case off
        }
        public var length = Length.epochs(3)
        /// Sequences per optimiser step.
        public var batchSize = 16
        public var microbatchTokens = MicrobatchTokens.auto
        /// Memory that the run may use, in bytes; nil leaves it to graft.
        public var memoryBytes: Int?
        public var learningRate = 2.0e-4
        public var schedule = Schedule.cosine
        /// The part of the run in which the learning rate rises from 0.
        public var warmupRatio = 0.03
        public var optimizer = Optimizer()
        /// The largest global gradient norm; nil does not clip.
        public var maxGradNorm: Double? = 1.0
        public var precision = Precision.auto
        /// What the frozen base is kept as in memory.
        public var quantization = BaseQuantization.none
        public var activationCheckpointing = Checkpointing.auto
        public var seed: UInt64 = 42
        /// Steps from one line of metrics to the next.
        public var logEvery = 1
        public var evalEvery = Interval.fraction(0.1)
        public var evalRows = EvalRows.auto
        public var saveEvery = Interval.fraction(0.1)
        public init() {}
    }

    public struct Optimizer: Sendable, Equatable {
        public enum Name: String, Sendable, CaseIterable { case adamw }
        public var name = Name.adamw
        public var beta1 = 0.9
        public var beta2 = 0.999
        public var epsilon = 1.0e-8
        public var weightDecay = 0.0
        public init() {}
    }

    /// How often something happens during a run.
    public enum Interval: Sendable, Equatable {
        case never
        /// Every this part of the run, above 0 and below 1.
        case fraction(Double)
        /// Every so many optimiser steps.
        case steps(Int)

        /// Steps from one time to the next in a run of `total` steps, at least 1; nil for never.
        public func stride(ofRun total: Int) -> Int? {
            switch self {
            case .never: nil
            case .fraction(let part): max(1, Int((Double(total) * part).rounded()))
            case .steps(let count): count
            }
        }

        /// Whether it happens after step `step` (counted from 1) of a run of `total` steps.
        public func isDue(after step: Int, ofRun total: Int) -> Bool {
            guard let stride = stride(ofRun: total) else { return false }
            return step % stride == 0
        }
    }

    public init(model: Model, output: String, data: Data, path: String = "") {
        self.model = model
        self.output = output
        self.data = data
        self.path = path
    }
}

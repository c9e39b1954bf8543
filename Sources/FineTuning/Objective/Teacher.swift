import FileFormats
import TensorCore
import TextData

extension TrainingRun {
    /// The configuration of the model to learn from; nil when there is none.
    func teacherConfig() throws -> ModelConfig? {
        guard case .distill(let distillation) = recipe.objective else { return nil }
        return try ModelConfig(path: distillation.teacher)
    }

    /// The model to learn from, mapped from its folder; nil when there is none.
    ///
    /// - Throws: `FineTuningError.badRecipe` when it does not speak in the model's tokens.
    func makeTeacher(for model: DecoderModel, _ dtype: DType, _ data: TrainingData) throws -> DecoderModel? {
        guard case .distill(let distillation) = recipe.objective else { return nil }
        guard model.head.adapter?.needsWholeLogits != true, model.head.weight.rows == nil else {
            throw FineTuningError.badRecipe([
                "objective distill does not go with DoRA or lora_bias on the head, nor with rows of a tied head "
                    + "that learn alone"
            ])
        }
        let config = model.config
        let folder = distillation.teacher
        let teacher = try DecoderModel(folder: folder, dtype: dtype)
        if let own = try recipe.tokenizerFolder.flatMap({ try TextResources(ifPresentAt: $0) }),
            let other = try TextResources(ifPresentAt: folder)
        {
            if let id = own.tokenizer.firstDifference(from: other.tokenizer) {
                throw FineTuningError.badRecipe([
                    "objective.teacher: the token \(id) of \(folder) is another one than the model's; distillation "
                        + "compares token by token and needs one vocabulary"
                ])
            }
        } else if teacher.config.vocabularySize != config.vocabularySize {
            throw FineTuningError.badRecipe([
                "objective.teacher: \(folder) has a vocabulary of \(teacher.config.vocabularySize) tokens, the "
                    + "model of \(config.vocabularySize), and there is no tokenizer to tell whether they mean the same"
            ])
        }
        let size = teacher.config.vocabularySize
        for (name, rows) in [("data.train", data.train), ("data.eval", data.eval)] {
            for (index, row) in rows.enumerated() {
                guard let id = row.ids.first(where: { Int($0) >= size }) else { continue }
                throw FineTuningError.badInput([
                    "objective.teacher: example \(index + 1) of \(name) has the token id \(id), and the embedding of "
                        + "\(folder) has \(size) rows"
                ])
            }
        }
        return teacher
    }
}

extension Tokenizer {
    /// The first id that does not stand for the same token in both; a vocabulary may be longer than the other.
    fileprivate func firstDifference(from other: Tokenizer) -> Int32? {
        (0..<Int32(min(vocabularySize, other.vocabularySize))).first { token(for: $0) != other.token(for: $0) }
    }
}

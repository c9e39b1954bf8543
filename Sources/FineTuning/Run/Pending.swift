import TextData
extension ChatTemplate {
    static func find(folder: String) throws -> ChatTemplate? { nil }
}

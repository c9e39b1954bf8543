import Testing
@testable import TextData

import Testing
@testable import FineTuning

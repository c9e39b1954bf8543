import Testing

import TextData

@Suite struct PythonPatternTests {
    private let name = "model.layers.11.self_attn.q_proj"

    @Test(arguments: [
        (#".*\.q_proj"#, true), ("q_proj", false),
        (#"(?P<layer>model\.layers\.\d+)\.self_attn\.(?P<p_1>q_proj)\Z"#, true),
        (#".*(?P<a>q)_.*"#, true), (#"(?i).*Q_PROJ"#, true), (#".*(?i:Q)_proj"#, true), (#"(?:.*)"#, true),
        (#".*(1)\1.*"#, true), (#".*(?P<one>1)(?P=one).*"#, true), (#".*(?P<one>1)\1.*"#, true),
        (#"model(?!\.layers).*"#, false), (#".*(?<=self_attn\.)q_proj"#, true), (#".*q_proj$"#, true),
        (#".*layers\.(0|1|11)\..*"#, true), (#"model|model\.layers\.11\.self_attn\.q_proj"#, true),
        (#".*(x)?(?(1)k|q)_proj"#, true), (#"^model.*"#, true), ("(", false), (#"(?P<a>.*)(?P<a>.*)"#, false),
        (#"[\w.]+?"#, true), ("", false),
    ]) func fullMatch(pattern: String, isMatch: Bool) {
        #expect(PythonPattern.matches(pattern, whole: name) == isMatch)
    }

    @Test func validity() {
        #expect(PythonPattern.isValid("a(?P<b>c)") && !PythonPattern.isValid("a(b") && PythonPattern.isValid(""))
    }

    @Test func patternsThatBacktrackForEverMatchNothing() {
        #expect(!PythonPattern.matches("(a+)+b", whole: String(repeating: "a", count: 60)))
    }
}

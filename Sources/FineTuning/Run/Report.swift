import FileFormats
import Foundation

/// `report.html`: what a run did, in one file that needs nothing else.
public struct RunReport: Sendable {
    public struct Sample: Sendable {
        public var prompt: String
        /// The answer of the data; nil when there is none.
        public var expected: String?
        public var before: String
        public var after: String
        public init(prompt: String, expected: String?, before: String, after: String) {
            self.prompt = prompt
            self.expected = expected
            self.before = before
            self.after = after
        }
    }
    /// A table; the first row is its head.
    public struct Table: Sendable {
        public var title: String
        public var rows: [[String]]
        public init(title: String, rows: [[String]]) {
            self.title = title
            self.rows = rows
        }
    }

    public var title: String
    /// Facts at the top: name and value.
    public var facts: [(name: String, value: String)] = []
    /// Loss of each logged step, in nats a trained token.
    public var trainLoss: [(step: Int, value: Double)] = []
    public var evalLoss: [(step: Int, value: Double)] = []
    public var learningRate: [(step: Int, value: Double)] = []
    public var tables: [Table] = []
    public var samples: [Sample] = []
    public var recipe: String

    public init(title: String, recipe: String) {
        self.title = title
        self.recipe = recipe
    }

    /// Takes the curves from the lines of a metrics log.
    mutating func addCurves(fromLog path: String) throws {
        let lines = try MetricsLog.read(path)
        evalLoss += EvaluationCurve(lines).points.map { ($0.step, $0.loss) }
        for line in lines {
            guard let step = line["step"]?.intValue else { continue }
            if let loss = line["loss"]?.doubleValue { trainLoss.append((step, loss)) }
            if let rate = line["learning_rate"]?.doubleValue { learningRate.append((step, rate)) }
        }
    }

    public func write(to path: String) throws {
        try AtomicFile.write(Array(html.utf8), to: path, replacing: true)
    }

    public var html: String {
        var body = "<h1>\(escaped(title))</h1>\n"
        if !facts.isEmpty {
            let items = facts.map { "<div><dt>\(escaped($0.name))</dt><dd>\(escaped($0.value))</dd></div>" }
            body += "<dl class=\"facts\">\n\(items.joined(separator: "\n"))\n</dl>\n"
        }
        if !trainLoss.isEmpty || !evalLoss.isEmpty {
            let chart = LineChart(
                caption: "Loss, nats a trained token",
                series: [
                    .init(name: "training", style: "train", points: trainLoss),
                    .init(name: "evaluation", style: "eval", points: evalLoss, hasMarks: true),
                ])
            body += "<h2>Loss</h2>\n\(chart.svg)\n"
        }
        if !learningRate.isEmpty {
            let chart = LineChart(
                caption: "Learning rate", series: [.init(name: "learning rate", style: "rate", points: learningRate)],
                height: 150)
            body += "<h2>Learning rate</h2>\n\(chart.svg)\n"
        }
        for table in tables { body += html(table) }
        if !samples.isEmpty {
            body += "<h2>Samples before and after</h2>\n" + samples.map(html).joined(separator: "\n") + "\n"
        }
        body += "<h2>Recipe</h2>\n<pre>\(escaped(recipe))</pre>\n"
        return """
            <!doctype html>
            <html lang="en">
            <head>
            <meta charset="utf-8">
            <meta name="viewport" content="width=device-width, initial-scale=1">
            <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
            <title>\(escaped(title))</title>
            <style>\(Self.style)</style>
            </head>
            <body>
            <main>
            \(body)<footer>Written by graft \(graftVersion). This file loads nothing from elsewhere.</footer>
            </main>
            </body>
            </html>

            """
    }

    private func html(_ table: Table) -> String {
        guard let head = table.rows.first else { return "" }
        func row(_ cells: [String], _ tag: String) -> String {
            "<tr>" + cells.map { "<\(tag)>\(escaped($0))</\(tag)>" }.joined() + "</tr>"
        }
        let rows = table.rows.dropFirst().map { row($0, "td") }.joined(separator: "\n")
        return "<h2>\(escaped(table.title))</h2>\n<div class=\"wide\"><table>\n<thead>\(row(head, "th"))</thead>\n"
            + "<tbody>\n\(rows)\n</tbody>\n</table></div>\n"
    }

    private func html(_ sample: Sample) -> String {
        func block(_ name: String, _ text: String, _ style: String = "") -> String {
            "<div class=\"\(style)\"><h4>\(name)</h4><pre dir=\"auto\">\(escaped(text))</pre></div>"
        }
        var parts = [block("Prompt", sample.prompt, "prompt")]
        if let expected = sample.expected { parts.append(block("Expected", expected)) }
        let isMatch = sample.expected.map { $0.hasSameBytes(as: sample.after) } ?? false
        parts.append(block("Before", sample.before))
        parts.append(block("After" + (isMatch ? " ✓" : ""), sample.after, isMatch ? "match" : ""))
        return "<section class=\"sample\">\(parts.joined())</section>"
    }

    private static let style = """
        :root{color-scheme:light dark;--ink:#1d2327;--soft:#5c6670;--line:#d9dee3;--paper:#fff;--panel:#f5f7f9;\
        --train:#2563a8;--eval:#c2410c;--rate:#3f7d3f;--good:#e3f3e3}
        @media (prefers-color-scheme:dark){:root{--ink:#e6e9ec;--soft:#9aa5b0;--line:#39424b;--paper:#14181c;\
        --panel:#1d2329;--train:#7ab8f5;--eval:#fb9a6b;--rate:#8ccf8c;--good:#1c3a24}}
        @media print{:root{--ink:#000;--soft:#444;--line:#bbb;--paper:#fff;--panel:#fff;--train:#2563a8;\
        --eval:#c2410c;--rate:#3f7d3f;--good:#fff}pre{border:1px solid var(--line)}.sample,svg,tr{break-inside:avoid}}
        body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
        main{max-width:60rem;margin:0 auto;padding:1.5rem}
        h1{font-size:1.6rem}h2{font-size:1.2rem;margin:2rem 0 .5rem}h4{margin:0 0 .25rem;font-size:.8rem;\
        color:var(--soft);font-weight:600}
        .facts{display:flex;flex-wrap:wrap;gap:.75rem 2rem;margin:1rem 0}.facts dt{color:var(--soft);font-size:.8rem}\
        .facts dd{margin:0;font-weight:600;overflow-wrap:anywhere}
        table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .75rem .3rem 0;\
        border-bottom:1px solid var(--line);vertical-align:top}th{color:var(--soft);font-weight:600}\
        td+td,th+th{font-variant-numeric:tabular-nums}.wide{overflow-x:auto}
        pre{background:var(--panel);padding:.6rem;margin:0;white-space:pre-wrap;overflow-wrap:anywhere;\
        font:.85rem/1.45 ui-monospace,monospace;border-radius:4px}
        .sample{display:grid;grid-template-columns:repeat(auto-fit,minmax(15rem,1fr));gap:.75rem;padding:1rem 0;\
        border-bottom:1px solid var(--line)}.sample .prompt{grid-column:1/-1}.match pre{background:var(--good)}
        svg{width:100%;height:auto;display:block}svg text{fill:var(--soft);font:12px system-ui,sans-serif}
        svg .grid{stroke:var(--line)}svg .train{stroke:var(--train)}svg .eval{stroke:var(--eval)}\
        svg .rate{stroke:var(--rate)}svg circle.eval{fill:var(--eval)}
        footer{color:var(--soft);font-size:.8rem;margin-top:2rem}
        """
}

/// Text made safe between tags and in quoted attributes; control characters become visible stand-ins.
func escaped(_ text: String) -> String {
    var result = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
        switch scalar {
        case "&": result.append(contentsOf: "&amp;".unicodeScalars)
        case "<": result.append(contentsOf: "&lt;".unicodeScalars)
        case ">": result.append(contentsOf: "&gt;".unicodeScalars)
        case "\"": result.append(contentsOf: "&quot;".unicodeScalars)
        case "'": result.append(contentsOf: "&#39;".unicodeScalars)
        case "\n", "\t": result.append(scalar)
        case _ where scalar.value < 0x20 || (0x7F..<0xA0).contains(scalar.value): result.append("\u{FFFD}")
        default: result.append(scalar)
        }
    }
    return String(result)
}

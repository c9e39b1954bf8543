import Foundation

/// A line chart as inline SVG; colours come from the page's style sheet by class.
struct LineChart {
    struct Series {
        var name: String
        var style: String
        var points: [(step: Int, value: Double)]
        var hasMarks = false
    }
    var caption: String
    var series: [Series]
    var width = 800.0
    var height = 300.0
    private let margin = (left: 64.0, right: 16.0, top: 24.0, bottom: 32.0)
    /// More points than this are averaged in groups: a line has no more pixels.
    private static let maximumPoints = 800

    init(caption: String, series: [Series], height: Double = 300) {
        self.caption = caption
        self.series = series.filter { !$0.points.isEmpty }
        self.height = height
    }

    var svg: String {
        let values = series.flatMap { $0.points.map(\.value).filter(\.isFinite) }
        let steps = series.flatMap { $0.points.map { Double($0.step) } }
        guard let lowest = values.min(), let highest = values.max(), let first = steps.min(), let last = steps.max()
        else { return "" }
        let yTicks = Self.ticks(from: min(lowest, 0 < lowest && lowest < highest / 4 ? 0 : lowest), to: highest)
        let xTicks = Self.ticks(from: first, to: last).filter { $0 >= first && $0 <= last && $0 == $0.rounded() }
        let (low, high) = (min(yTicks.first ?? lowest, lowest), max(yTicks.last ?? highest, highest))
        let plotWidth = width - margin.left - margin.right
        let plotHeight = height - margin.top - margin.bottom
        func x(_ step: Double) -> Double {
            margin.left + plotWidth * (last > first ? (step - first) / (last - first) : 0.5)
        }
        func y(_ value: Double) -> Double {
            margin.top + plotHeight * (1 - (high > low ? (value - low) / (high - low) : 0.5))
        }
        var parts: [String] = []
        for tick in yTicks {
            parts.append(
                "<line class=\"grid\" x1=\"\(margin.left)\" x2=\"\(width - margin.right)\" y1=\"\(text(y(tick)))\" "
                    + "y2=\"\(text(y(tick)))\"/><text x=\"\(margin.left - 8)\" y=\"\(text(y(tick) + 4))\" "
                    + "text-anchor=\"end\">\(Self.label(tick))</text>")
        }
        for tick in xTicks {
            parts.append(
                "<text x=\"\(text(x(tick)))\" y=\"\(height - margin.bottom + 18)\" text-anchor=\"middle\">"
                    + "\(Int(tick))</text>")
        }
        var legend = margin.left
        for series in series {
            let points = Self.thinned(series.points.filter { $0.value.isFinite })
            let path = points.map { "\(text(x($0.step))),\(text(y($0.value)))" }.joined(separator: " ")
            parts.append("<polyline class=\"\(series.style)\" fill=\"none\" stroke-width=\"1.75\" points=\"\(path)\"/>")
            if series.hasMarks || points.count == 1 {
                parts += points.map {
                    "<circle class=\"\(series.style)\" cx=\"\(text(x($0.step)))\" cy=\"\(text(y($0.value)))\" r=\"3\"/>"
                }
            }
            parts.append(
                "<line class=\"\(series.style)\" x1=\"\(legend)\" x2=\"\(legend + 20)\" y1=\"10\" y2=\"10\" "
                    + "stroke-width=\"3\"/><text x=\"\(legend + 26)\" y=\"14\">\(escaped(series.name))</text>")
            legend += 120
        }
        parts.append("<text x=\"\(width - margin.right)\" y=\"14\" text-anchor=\"end\">\(escaped(caption))</text>")
        parts.append("<text x=\"\(width - margin.right)\" y=\"\(height - 2)\" text-anchor=\"end\">step</text>")
        return "<svg viewBox=\"0 0 \(Int(width)) \(Int(height))\" role=\"img\" aria-label=\"\(escaped(caption))\">\n"
            + parts.joined(separator: "\n") + "\n</svg>"
    }

    private func text(_ value: Double) -> String { String(format: "%.1f", value) }

    /// Round numbers (1, 2 or 5 times a power of ten) that span the range, about five of them.
    static func ticks(from low: Double, to high: Double) -> [Double] {
        guard high > low else { return [low] }
        let rough = (high - low) / 5
        let magnitude = pow(10, floor(log10(rough)))
        let size = [1, 2, 5, 10].map { $0 * magnitude }.first { $0 >= rough } ?? rough
        let first = Int((low / size).rounded(.down))
        let last = Int((high / size).rounded(.up))
        return (first...last).map { Double($0) * size }
    }

    private static func label(_ value: Double) -> String {
        if value == 0 { return "0" }
        let text =
            abs(value) < 0.01 || abs(value) >= 1e5 ? String(format: "%.1e", value) : String(format: "%.4g", value)
        return text.replacingOccurrences(of: "e-0", with: "e-").replacingOccurrences(of: "e+0", with: "e")
    }

    private static func thinned(_ points: [(step: Int, value: Double)]) -> [(step: Double, value: Double)] {
        let group = (points.count + maximumPoints - 1) / maximumPoints
        guard group > 1 else { return points.map { (Double($0.step), $0.value) } }
        return stride(from: 0, to: points.count, by: group).map { start in
            let part = points[start..<min(start + group, points.count)]
            let count = Double(part.count)
            return (part.reduce(0) { $0 + Double($1.step) } / count, part.reduce(0) { $0 + $1.value } / count)
        }
    }
}

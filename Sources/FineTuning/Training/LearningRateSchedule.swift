import Foundation

/// The learning rate of each optimiser step, as Transformers' schedules define it.
public struct LearningRateSchedule: Sendable {
    public enum Shape: String, Sendable, CaseIterable {
        case constant, linear, cosine
    }

    public var shape: Shape
    public var peak: Double
    public var warmupSteps: Int
    public var totalSteps: Int

    public init(shape: Shape, peak: Double, warmupSteps: Int, totalSteps: Int) {
        self.shape = shape
        self.peak = peak
        self.warmupSteps = warmupSteps
        self.totalSteps = totalSteps
    }

    /// The rate of step `step`, counted from 0: rising linearly over the warm-up, then falling to 0 at the end.
    public func rate(at step: Int) -> Double {
        if step < warmupSteps { return peak * Double(step) / Double(max(1, warmupSteps)) }
        let progress = min(1, Double(step - warmupSteps) / Double(max(1, totalSteps - warmupSteps)))
        return switch shape {
        case .constant: peak
        case .linear: peak * (1 - progress)
        case .cosine: peak * 0.5 * (1 + cos(.pi * progress))
        }
    }
}

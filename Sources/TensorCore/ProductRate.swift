internal import CKernels
import Foundation

/// The rate of matrix products on this machine: what a training step is measured against.
public struct ProductRate: Sendable {
    public var dtype: DType
    public var threads: Int
    /// Floating-point operations a second, multiplications and additions counted apart.
    public var operationsPerSecond: Double

    /// Times `[2048, 2048] x [2048, 2048]` as a step runs its products: tiles of rows, one a worker.
    ///
    /// - Parameter seconds: how long to measure, about; the fastest run counts, since machines are shared.
    public static func measure(_ dtype: DType, pool: WorkerPool, seconds: Double = 1) -> ProductRate {
        let size = 2048
        let random = CounterRNG(1, 2, 3)
        let source = Tensor([size, size])
        source.withFloats { for i in $0.indices { $0[i] = Float(random.uniform(UInt64(i)) - 0.5) } }
        let (x, w, y) = (source.converted(to: dtype), source.converted(to: dtype), Tensor([size, size], dtype))
        let tiles = RowTiles(size, width: pool.width)
        func run() {
            pool.parallelFor(tiles.count, .other) { tile, worker in
                let (first, count) = (tiles.first(tile), tiles.rows(tile))
                worker.multiply(
                    Matrix(x).rows(first, count), Matrix(w).transposed, into: Matrix(y).rows(first, count))
            }
        }
        run()
        var best = Double.infinity
        let start = Date()
        repeat {
            let began = Date()
            run()
            best = min(best, Date().timeIntervalSince(began))
        } while Date().timeIntervalSince(start) < seconds
        let operations = 2 * Double(size) * Double(size) * Double(size)
        return ProductRate(dtype: dtype, threads: pool.count, operationsPerSecond: operations / best)
    }
}

/// Bytes a second that all threads together read from memory: what generation of a single sequence is measured against.
///
/// - Returns: of the fastest of the passes that `seconds` allow, over a block much larger than any cache.
public func measureMemoryBandwidth(pool: WorkerPool, seconds: Double = 0.5) -> Double {
    let words = 1 << 26, piece = 1 << 17
    let block = Tensor.zeros([words * 2])
    let base = UnsafePointer(block.raw.assumingMemoryBound(to: UInt64.self))
    var best = Double.infinity
    let start = Date()
    repeat {
        let began = Date()
        pool.parallelFor(words / piece) { i, worker in
            // Kept, so that the compiler cannot leave the reading out.
            worker.floats(1, count: 2).withMemoryRebound(to: UInt64.self, capacity: 1) {
                $0.pointee = graft_read_memory(base + i * piece, piece)
            }
        }
        best = min(best, Date().timeIntervalSince(began))
    } while Date().timeIntervalSince(start) < seconds
    return Double(words * 8) / best
}

//! Open-loop load, and the benchmarks with their controls.

//! Counters and gauges of a node (being written)

"""The benchmark harness: workloads, load generators, histograms and reports."""

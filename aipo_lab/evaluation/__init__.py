"""One model on benchmarks, and scores of official files. May be imported by browsing, console and the command line."""

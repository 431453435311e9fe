"""The HTML report: claims, tables, samples and their template. May be imported by sweeps and above."""

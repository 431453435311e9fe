"""The tracker interface and its implementations: showing results elsewhere. May be imported by sweeps and above."""

"""The benchmarks of bench/run, bench/growth, bench/instructions, bench/diamond and bench/report.

    measure    one command or several at once: wall time, CPU time, memory; bytes on disk
    places     where things are: binaries, contexts, base images, states, figures
    workloads  what is built, in which modes, and what is asked of the figures
    builders   nativebuild, and what all builders share
    peers      buildah (root and rootless) and podman
    dockerd    Docker's daemon, started and stopped here
    direct     the commands of a workload without any builder
    binfmt     a binfmt_misc of one's own for foreign architectures
    main       bench/run: one workload after the other
    compare    builders in turns on one workload
    crowd      many builds at once in one store
    growth, diamond, instructions    the commands of these names
    figures    raw figures as JSON, one file a workload
    unique     what a store has to hold at least, by a process of its own
    judge      medians, ratios and targets
    tables     Markdown;  bars: SVG;  report: docs/bench
"""

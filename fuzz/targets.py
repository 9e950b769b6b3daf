"""All targets by name, in the order in which they run."""

from fuzz import archives, codecs, http, planners, platforms, references, tar

TARGETS = {
    target.name: target
    for target in (
        tar.TARGET,
        *codecs.TARGETS,
        planners.TARGET,
        references.TARGET,
        platforms.TARGET,
        *archives.TARGETS,
        http.TARGET,
    )
}

"""Runs one target under atheris: `python -m fuzz.child TARGET CORPUS... -libfuzzer_option=...`."""

import random
import sys

import atheris

with atheris.instrument_imports(include=["airside", "tarfile"]):
    from fuzz.targets import TARGETS


def main() -> None:
    name, *rest = sys.argv[1:]
    target = TARGETS[name]

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        assert target.mutate is not None
        rng = random.Random(seed)
        return target.mutate(data, rng, lambda raw: atheris.Mutate(raw, max_size))[:max_size]

    arguments = [sys.argv[0], f"-max_len={target.max_bytes}", *rest]
    if target.mutate is None:
        atheris.Setup(arguments, target.check)
    else:
        atheris.Setup(arguments, target.check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""What does not add up, in sentences that name it."""

from dataclasses import dataclass, field


@dataclass
class Findings:
    """Collects what is wrong. ``about`` begins each sentence: run 3, record 1."""

    about: str
    problems: list[str] = field(default_factory=list)

    def need(self, holds: bool, why: str) -> bool:
        """Note ``why`` unless something holds; gives back whether it does."""
        if not holds:
            self.problems.append(f"{self.about}: {why}")
        return holds

    def same(self, what: str, told: object, held: object) -> None:
        """Note where the events tell something else than the contract holds."""
        self.need(told == held, f"{what}: the events say {shown(told)}, the contract {shown(held)}")


def shown(value: object) -> str:
    """A value in a sentence; bytes as hexadecimal digits."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, tuple | list):
        return "(" + ", ".join(map(shown, value)) + ")"
    return str(value)

"""The folder of a set, and the error of what cannot be used as one."""

from collections.abc import Iterable, Sequence
from pathlib import Path

SUBSETS = ("train", "valid", "test")


class DatasetError(ValueError):
    """A root cannot be used: every finding on a line of its own; `stems` names those of its songs, where known."""

    def __init__(self, root: Path | str, findings: Sequence[str], stems: Iterable[str] = ()) -> None:
        self.root, self.findings, self.stems = root, list(findings), sorted(stems)
        shown = self.findings[:50]
        if len(self.findings) > len(shown):
            shown.append(f"and {len(self.findings) - len(shown)} more")
        separator = "\n  " if len(shown) > 1 else " "
        super().__init__(separator.join([f"{root} cannot be used as data:", *shown]))

    def __reduce__(self) -> tuple:
        """Rebuild it from its arguments in another process."""
        return DatasetError, (self.root, self.findings, self.stems)


def find_root(root: str | Path) -> Path:
    """Return the folder of a root, or the file that lists it; that of the built-in songs where it is "demo"."""
    if str(root) == "demo":
        from sepkit.datasets.demo import demo_root

        return demo_root()
    is_list = Path(root).suffix.lower() in (".csv", ".json") and Path(root).is_file()
    if not is_list and not Path(root).is_dir():
        what = "it is no folder" if Path(root).exists() else "there is no such folder"
        raise DatasetError(root, [f"{what}; give one with train/, valid/ and test/ folders of songs, or a manifest"])
    return Path(root)

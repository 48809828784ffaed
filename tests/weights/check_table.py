"""Compares the rows of timm in the table of published weights with the installed timm, field by field.

.venv-peers/bin/python tests/weights/check_table.py
"""

import csv
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def main() -> int:
    """Prints what differs, and returns the exit status."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.peers import without_torchvision

    without_torchvision()
    from timm.models import get_pretrained_cfg

    with open(ROOT / "keras_resnet" / "weights" / "sources.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["publisher"] == "timm"]
    wrong = []
    for row in rows:
        found = get_pretrained_cfg(f"{row['model']}.{row['tag']}")
        expected = {
            "source": f"hf://{found.hf_hub_id}" if "/" in (found.hf_hub_id or "") else row["source"],
            "url": found.url or "",
            "license": found.license or "",
            "classes": str(found.num_classes),
            "input_size": str(found.input_size[-1]),
            "crop": str(found.crop_pct),
            "test_size": str((found.test_input_size or found.input_size)[-1]),
            "test_crop": str(found.test_crop_pct or found.crop_pct),
            "interpolation": found.interpolation,
            "mean": " ".join(map(str, found.mean)),
            "std": " ".join(map(str, found.std)),
        }
        wrong += [
            (row["model"], row["tag"], key, row[key], value) for key, value in expected.items() if row[key] != value
        ]
    for line in wrong:
        print(*line)
    print(f"{len(rows)} rows, {len(wrong)} fields differ")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

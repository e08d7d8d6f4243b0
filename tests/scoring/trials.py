"""How good the conclusions of `compare` are, over samples whose truth is known.

    python -m tests.scoring.trials [TRIALS]

Prints, by the number of labelled images, in what share of the trials the right variant was chosen, and in what share
the 95 % interval of each variant held its true score. A third of the drawn receipts is hard to read.
"""

import sys

from tests.scoring import Rate, run_trials

CLEAR = [Rate("cheap", 0.10, "0.3"), Rate("middle", 0.02, "1.2"), Rate("dear", 0.02, "6")]
CLOSE = [Rate("flawless", 0.0005, "0.3"), Rate("good", 0.005, "1.2"), Rate("poor", 0.3, "6")]


def main() -> None:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    for variants, right in ((CLEAR, {"middle"}), (CLOSE, {"flawless"})):
        for images in (16, 30, 60, 100, 200):
            found = run_trials(variants, right, images=images, trials=trials, pool=4000)
            held = ", ".join(f"{name} {100 * held / trials:.0f} %" for name, held in found.covered.items())
            print(f"{images:>4} images: right choice {100 * found.right / trials:.0f} %; intervals hold {held}")


if __name__ == "__main__":
    main()

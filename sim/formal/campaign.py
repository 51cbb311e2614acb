"""Many proofs at once."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed

from .proof import Proof
from .solver import Answer, solve


def solve_all(
    proofs: Iterable[Proof], jobs: int, advance: Callable[[], None] = lambda: None
) -> dict[Proof, Answer]:
    """Answers in the order of ``proofs``, ``jobs`` solvers at a time; ``advance`` after each."""
    proofs = list(proofs)
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(solve, proof): proof for proof in proofs}
        try:
            for future in as_completed(futures):
                future.result()
                advance()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        found = {proof: future.result() for future, proof in futures.items()}
    return {proof: found[proof] for proof in proofs}

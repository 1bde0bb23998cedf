"""Linear algebra that Transformers rest on: products, cosines, eigenvectors, principal components, low rank (unit 01).

NumPy only. Symbols: ``*B`` any number of leading dimensions, none included (``*#B``: they broadcast); T and S rows
and columns of a product, K the width that it sums over; N points of width D; R how many components are kept.

Book: Golub, Van Loan, Matrix Computations, 4th edition, 2013.
"""

import numpy as np
from jaxtyping import Float


def batched_matmul(
    a: Float[np.ndarray, "*#B T K"], b: Float[np.ndarray, "*#B K S"]
) -> Float[np.ndarray, "*B T S"]:
    """Multiply the matrices of two stacks, pair by pair: one matrix product for each leading index.

    Args:
        a: (*B, T, K), a stack of matrices, or a single one.
        b: (*B, K, S). The leading dimensions of a and b broadcast.

    Returns:
        (*B, T, S): entry [..., t, s] is the sum over k of a[..., t, k] · b[..., k, s].

    Raises:
        ValueError: the two widths K differ, also where one of them is 1.

    Source: Golub and Van Loan, 2013, section 1.1 (the product as dot products).
    """
    if a.shape[-1] != b.shape[-2]:  # einsum would stretch a width of 1
        raise ValueError(f"the inner sizes differ: {a.shape} and {b.shape}")
    return np.einsum("...tk,...ks->...ts", a, b)


def cosine_similarity(
    x: Float[np.ndarray, "*#B T D"], y: Float[np.ndarray, "*#B S D"]
) -> Float[np.ndarray, "*B T S"]:
    """Compare every row of x with every row of y by the cosine of the angle between them.

    Args:
        x: (*B, T, D), one vector a row. It is left unchanged.
        y: (*B, S, D). The leading dimensions of x and y broadcast.

    Returns:
        (*B, T, S): entry [..., t, s] is x[t] · y[s] / (‖x[t]‖ ‖y[s]‖), between -1 and 1 up to rounding. It does not
        depend on how long the rows are, however short; where one of the two is exactly zero it is 0.

    Source: Manning, Raghavan, Schütze, Introduction to Information Retrieval, 2008, section 6.3.1.
    """
    units = []
    for rows in (x, y):
        length = np.linalg.norm(rows, axis=-1, keepdims=True)  # (*B, T, 1)
        units.append(rows / np.where(length == 0, 1.0, length))
    return batched_matmul(units[0], units[1].swapaxes(-2, -1))  # (*B, T, D) @ (*B, D, S) -> (*B, T, S)


def power_iteration(
    matrix: Float[np.ndarray, "N N"], start: Float[np.ndarray, " N"], steps: int = 100
) -> tuple[float, Float[np.ndarray, " N"]]:
    """Find the eigenvalue of largest magnitude and its eigenvector: apply the matrix again and again.

    Args:
        matrix: (N, N), which need not be symmetric, with one eigenvalue larger in magnitude than all others.
        start: (N,), the vector to begin with. It is left unchanged.
        steps: how often the matrix is applied, at least once. After each time the vector is scaled to length one.

    Returns:
        The eigenvalue, λ = vᵀ A v, with its sign, and the vector v (N,) of length one that the last step has led to.
        Both are estimates, the better the more steps. v may point either way.

    Raises:
        ValueError: the vector has become zero, which has no direction.

    Source: Golub and Van Loan, 2013, section 7.3.1.
    """
    vector = start
    for _ in range(steps):
        vector = matrix @ vector
        length = np.linalg.norm(vector)
        if length == 0:
            raise ValueError("the matrix has sent the vector to zero: begin with another one")
        vector = vector / length
    return vector @ matrix @ vector, vector


def pca(
    x: Float[np.ndarray, "N D"], count: int
) -> tuple[Float[np.ndarray, "count D"], Float[np.ndarray, " count"]]:
    """Find the directions in which points vary most: their principal components.

    Args:
        x: (N, D), one point a row. It is left unchanged.
        count: how many directions, from 1 to the smaller of N - 1 and D.

    Returns:
        The components (count, D), one a row, of length one and at right angles, each pointing either way; and the
        variances (count,) of the points along them, largest first: sums of squares divided by N - 1.

    Raises:
        ValueError: count is less than 1, or more than N - 1 or D.

    Source: Bishop, Pattern Recognition and Machine Learning, 2006, section 12.1.1.
    """
    if not 1 <= count <= min(x.shape[0] - 1, x.shape[1]):
        raise ValueError(f"{count} components of {x.shape[0]} points of width {x.shape[1]}")
    centred = x - x.mean(axis=0)  # (N, D)
    covariance = centred.T @ centred / (x.shape[0] - 1)  # (D, D)
    variances, vectors = np.linalg.eigh(covariance)  # smallest first; vectors[:, i] belongs to variances[i]
    return vectors.T[::-1][:count], variances[::-1][:count]


def low_rank(matrix: Float[np.ndarray, "*B T S"], rank: int) -> Float[np.ndarray, "*B T S"]:
    """Approximate a matrix as well as a matrix of lower rank can, by the largest of its singular values.

    Args:
        matrix: (*B, T, S), a matrix or a stack of them, each approximated by itself.
        rank: R, how many singular values to keep, from 0 (nothing is left) to the smaller of T and S (all is).

    Returns:
        (*B, T, S): of all matrices of rank R at most, the one with the smallest sum of squared differences.

    Raises:
        ValueError: rank is negative, or larger than T or S.

    Source: Eckart and Young, "The approximation of one matrix by another of lower rank", 1936; Golub and Van Loan,
    2013, section 2.4.
    """
    if not 0 <= rank <= min(matrix.shape[-2:]):
        raise ValueError(f"rank {rank} of a matrix of shape {matrix.shape[-2:]}")
    u, s, vh = np.linalg.svd(matrix, full_matrices=False)  # (*B, T, M), (*B, M), (*B, M, S)
    return batched_matmul(u[..., :rank] * s[..., None, :rank], vh[..., :rank, :])

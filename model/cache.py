"""Keys and values of the tokens that rows have read, so that each new token costs one token's work.

    positions, mask = cache.advance(T)        once per forward pass: T more tokens in each row
    keys, values = cache.extend(layer, k, v)  in every layer: the new ones stored, all so far returned

Row b has its tokens in slots 0 .. lengths_B[b] - 1, so rows of any lengths stand side by side. Prompts of several
lengths are padded on the right; then their true lengths are set: what the padding left behind a row's end is seen by
nobody (a query sees the slots up to its own) and overwritten by the tokens that come.

Shapes: L layers, B rows, T new tokens, S slots, K key/value heads, E numbers per head.
"""

import torch
from torch import Tensor

from model.config import Shape


class Cache:
    """The store of `num_rows` rows of at most `num_slots` tokens: 2 x L x B x K x S x E numbers, allocated once.

    Attributes:
        lengths_B: int64, on the host: tokens that each row holds
    """

    def __init__(self, shape: Shape, num_rows: int, num_slots: int, dtype: torch.dtype, device: torch.device) -> None:
        """`dtype`: of the model. On a CPU the store is float32 in any case: there torch's attention in bfloat16 takes
        two to five times as long (docs/decisions.md)."""
        dtype = torch.float32 if device.type == "cpu" else dtype
        size = (shape.num_layers, num_rows, shape.num_kv_heads, num_slots, shape.head_dim)
        self.keys_LBKSE = torch.zeros(size, dtype=dtype, device=device)
        self.values_LBKSE = torch.zeros(size, dtype=dtype, device=device)
        self.lengths_B = torch.zeros(num_rows, dtype=torch.int64)

    def rows(self, first: int, end: int) -> "Cache":
        """The rows from `first` up to, not including, `end`: a cache of their own on the same memory."""
        part = Cache.__new__(Cache)
        part.keys_LBKSE, part.values_LBKSE = self.keys_LBKSE[:, first:end], self.values_LBKSE[:, first:end]
        part.lengths_B = self.lengths_B[first:end]
        return part

    def advance(self, num_new: int) -> tuple[Tensor, Tensor | None]:
        """Make room for `num_new` tokens in every row.

        Returns their positions, (B,T), and what a query sees, 0 or -inf for each pair, (B,1,T,S); None where that needs
        no mask: as all rows begin here, or as one token comes to each of rows of one length.
        """
        device = self.keys_LBKSE.device
        lengths = self.lengths_B.tolist()
        self._first, self._end = min(lengths), max(lengths) + num_new
        self._aligned = self._first == self._end - num_new
        self._positions_BT = (self.lengths_B[:, None] + torch.arange(num_new)).to(device)
        self.lengths_B += num_new
        if self._aligned and (num_new == 1 or self._first == 0):
            return self._positions_BT, None
        hidden_BTS = torch.arange(self._end, device=device) > self._positions_BT[..., None]
        mask_BTS = torch.zeros(hidden_BTS.shape, dtype=self.keys_LBKSE.dtype, device=device)
        return self._positions_BT, mask_BTS.masked_fill_(hidden_BTS, -torch.inf)[:, None]

    def extend(self, layer: int, k_BTKE: Tensor, v_BTKE: Tensor) -> tuple[Tensor, Tensor]:
        """Store one layer's new keys and values; return all that are stored so far, (B,S,K,E)."""
        keys_BKSE, values_BKSE = self.keys_LBKSE[layer], self.values_LBKSE[layer]
        if self._aligned:
            keys_BKSE[:, :, self._first : self._end] = k_BTKE.transpose(1, 2)
            values_BKSE[:, :, self._first : self._end] = v_BTKE.transpose(1, 2)
        else:
            row_B1 = torch.arange(len(k_BTKE), device=k_BTKE.device)[:, None]
            keys_BKSE.transpose(1, 2)[row_B1, self._positions_BT] = k_BTKE.to(keys_BKSE.dtype)
            values_BKSE.transpose(1, 2)[row_B1, self._positions_BT] = v_BTKE.to(keys_BKSE.dtype)
        return keys_BKSE[:, :, : self._end].transpose(1, 2), values_BKSE[:, :, : self._end].transpose(1, 2)

    def clear(self, row: int) -> None:
        """Empty a row. Zeros, as a number that is not finite would reach the next one there whatever the mask."""
        for store in (self.keys_LBKSE, self.values_LBKSE):
            store[:, row, :, : int(self.lengths_B[row])] = 0
        self.lengths_B[row] = 0

    def move(self, source: int, target: int) -> None:
        """What row `source` holds becomes that of row `target`, which is empty; then `source` is."""
        length = int(self.lengths_B[source])
        for store in (self.keys_LBKSE, self.values_LBKSE):
            store[:, target, :, :length] = store[:, source, :, :length]
        self.lengths_B[target] = length
        self.clear(source)

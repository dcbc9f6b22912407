"""How the backend finds the end of a body without looking at the bytes in between."""


class Sized:
    """A body with a Content-Length."""

    def __init__(self, length: int) -> None:
        self.size = length
        self._left = length

    @property
    def done(self) -> bool:
        """Tells whether the body has ended."""
        return self._left == 0

    def skip(self, view: memoryview) -> memoryview:
        """Takes body bytes and returns what follows them."""
        taken = min(self._left, len(view))
        self._left -= taken
        return view[taken:]


class Chunked:
    """A chunked body: size line, that many bytes and CRLF, until a chunk of none (no trailers)."""

    def __init__(self) -> None:
        self.size = 0
        self._left = 0
        self._line = b""
        self._last = False
        self.done = False

    def skip(self, view: memoryview) -> memoryview:
        """Takes body bytes and returns what follows them."""
        while view and not self.done:
            view = self._data(view) if self._left else self._size_line(view)
        return view

    def _data(self, view: memoryview) -> memoryview:
        taken = min(self._left, len(view))
        self._left -= taken
        self.done = self._last and not self._left
        return view[taken:]

    def _size_line(self, view: memoryview) -> memoryview:
        peek = bytes(view[:24])
        line, newline, _ = peek.partition(b"\n")
        self._line += line
        if newline:
            size = int(self._line.partition(b";")[0], 16)
            self._last = size == 0
            self.size += size
            self._left = size + 2  # the CRLF behind the data; behind the last chunk it ends the body
            self._line = b""
        return view[len(line) + len(newline) :]

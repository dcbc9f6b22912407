"""Reads a submit's form as Starlette does: streamed, files spooled; of two fields with one name the last wins."""

from tempfile import SpooledTemporaryFile

import orjson
from aiohttp import hdrs, web
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

File = SpooledTemporaryFile[bytes]
_IN_MEMORY = 1 << 20  # bytes of a part; a larger part goes to a temporary file, as in Starlette


class DemoForm:
    """A form as Starlette reads it: of two fields with one name the last wins; a part with a filename is a file."""

    def __init__(self, fields: dict[str, str] | None = None) -> None:
        self.fields: dict[str, str | File] = {**(fields or {})}
        self._part: File | None = None
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value = bytearray(), bytearray()

    def parser(self, boundary: bytes) -> MultipartParser:
        """Makes the parser that fills this form from a multipart body."""
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._header,
                "on_part_data": self._data,
                "on_part_end": self._end,
            },
        )

    def close(self) -> None:
        """Closes all files, also unfinished ones."""
        for value in (*self.fields.values(), self._part):
            if isinstance(value, SpooledTemporaryFile):
                value.close()

    def _begin(self) -> None:
        self._headers.clear()
        self._part = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - close() and _end() close it

    def _header(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part is not None:
            self._part.write(memoryview(data)[start:end])

    def _end(self) -> None:
        part, self._part = self._part, None
        if part is None:
            return
        _, about = parse_options_header(self._headers.get(b"content-disposition"))
        name = about.get(b"name", b"").decode("utf-8", "replace")
        if isinstance(earlier := self.fields.pop(name, None), SpooledTemporaryFile):
            earlier.close()
        if b"filename" in about:
            self.fields[name] = part
            return
        with part:
            size = part.tell()
            part.seek(0)
            if size > _IN_MEMORY:
                raise FormParserError(f"Part exceeded maximum size of {_IN_MEMORY // 1024}KB.")
            self.fields[name] = part.read().decode("utf-8", "replace")


async def read_form(request: web.Request) -> DemoForm:
    """Reads a body to its end; a body of another type gives an empty form.

    Raises:
        web.HTTPBadRequest: no boundary, or the parts are malformed.
    """
    kind, parameters = parse_options_header(request.headers.get(hdrs.CONTENT_TYPE))
    if kind == b"application/x-www-form-urlencoded":
        return DemoForm({name: value for name, value in (await request.post()).items() if isinstance(value, str)})
    form = DemoForm()
    if kind != b"multipart/form-data":
        return form
    if b"boundary" not in parameters:
        raise refusal(web.HTTPBadRequest, "Missing boundary in multipart.")
    try:
        parser = form.parser(parameters[b"boundary"])
        async for chunk in request.content.iter_any():
            parser.write(chunk)  # a write into the page cache: short enough for the loop
        parser.finalize()
    except BaseException as error:
        form.close()
        if isinstance(error, FormParserError):
            raise refusal(web.HTTPBadRequest, str(error)) from error
        if isinstance(error, ConnectionError):  # the client left: keeps aiohttp from logging it
            raise refusal(web.HTTPBadRequest, "There was an error parsing the body") from error
        raise
    return form


def refusal(status: type[web.HTTPException], detail: object) -> web.HTTPException:
    """An error in FastAPI's form, to be raised."""
    return status(text=orjson.dumps({"detail": detail}).decode(), content_type="application/json")

"""Images in requests, by the real Pillow: kinds of files, layouts, and those that are broken or lie."""

from __future__ import annotations

import asyncio
import base64
import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mlspec_runtime.predict.decoding.file import File
from mlspec_runtime.predict.examples import examples, png
from mlspec_runtime.predict.signature import ImageFile, TensorSpec
from runtime.malformed import INPUTS, good, malformed, with_size
from runtime.test_tensor_encodings import decoded, fault, status
from runtime.test_tensor_requests import post, service_of

pytestmark = pytest.mark.frameworks

SHADES = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
GRAY = TensorSpec("x", "float32", ("n", 1, 8, 8), image=ImageFile("gray", "channels_first", 255.0))
ANY = TensorSpec("x", "uint8", ("n", "height", "width", 3), image=ImageFile(max_pixels=10_000))


def file_of(image: Image.Image, kind: str = "PNG", **more: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


def value_of(content: bytes) -> dict[str, str]:
    return {"image": base64.b64encode(content).decode()}


def gray(mode: str = "L") -> Image.Image:
    return Image.fromarray(SHADES).convert(mode)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
@pytest.mark.parametrize(("kind", "more"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_pixels_are_those_of_the_file(mode: str, kind: str, more: dict[str, Any]) -> None:
    content = file_of(gray(mode), kind, **more)
    for value in (value_of(content), File("image/png", content)):
        got = decoded(value, GRAY)
        assert (got.dtype, got.shape) == (np.float32, (1, 1, 8, 8))
        assert np.allclose(got[0, 0] * 255, SHADES, atol=1)


@pytest.mark.parametrize("more", [{}, {"progressive": True}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg(mode: str, more: dict[str, Any]) -> None:
    content = file_of(gray(mode), "JPEG", quality=95, **more)
    assert np.allclose(decoded(value_of(content), GRAY)[0, 0] * 255, SHADES, atol=8)


def test_sixteen_bits_and_transparency() -> None:
    deep = file_of(Image.fromarray(SHADES.astype(np.uint16) * 256 + 77))
    assert np.array_equal(decoded(value_of(deep), GRAY)[0, 0] * 255, SHADES)
    clear = file_of(gray("P"), transparency=b"\x00" * 64)
    assert np.allclose(decoded(value_of(clear), GRAY)[0, 0] * 255, SHADES, atol=1)


def test_layouts() -> None:
    colours = np.stack([SHADES, SHADES // 2, 255 - SHADES], axis=2)
    value = value_of(file_of(Image.fromarray(colours)))
    last = TensorSpec("x", "uint8", ("n", 8, 8, 3), image=ImageFile())
    first = TensorSpec("x", "int64", (3, 8, 8), image=ImageFile(layout="channels_first"))
    none = TensorSpec("x", "float16", (8, 8), image=ImageFile("gray", "none", 255.0))
    assert np.array_equal(decoded(value, last)[0], colours)
    assert np.array_equal(decoded(value, first), colours.transpose(2, 0, 1))
    assert np.array_equal(decoded(value_of(file_of(gray())), none), (SHADES / 255).astype(np.float16))


def test_rows() -> None:
    values = [value_of(png(8, 8, shade)) for shade in (0, 51, 255)]
    assert decoded(values, GRAY)[:, 0, 0, 0].tolist() == [0, pytest.approx(0.2), 1]
    assert decoded([value_of(png(5, 4, 1))] * 2, ANY).shape == (2, 4, 5, 3)
    assert "where the first image is 8 x 8" in fault([*values, value_of(png(8, 9, 0))], ANY).message
    error = fault([*values, value_of(png(8, 8, 0)[:-30])], GRAY)
    assert error.field == "inputs.x.3"
    assert fault([*values, {"image": "!"}], GRAY).field == "inputs.x.3.image"
    assert fault([*values, 3], GRAY).field == "inputs.x.3"
    single = TensorSpec("x", "uint8", (8, 8, 3), image=ImageFile())
    assert "no list of them" in fault(values, single).message


def test_the_files_of_a_request_are_bounded_together() -> None:
    image = value_of(png(50, 50, 0))
    assert decoded([image] * 4, ANY).shape == (4, 50, 50, 3)
    assert "pixels together" in fault([image] * 5, ANY).message


def test_numbers_that_do_not_fit_are_no_silent_change() -> None:
    small = TensorSpec("x", "int8", ("n", 8, 8, 3), image=ImageFile())
    assert decoded(value_of(png(8, 8, 127)), small).max() == 127
    assert "do not fit" in fault(value_of(png(8, 8, 128)), small).message
    tens = TensorSpec("x", "int64", ("n", 8, 8, 3), image=ImageFile(divide_by=10.0))
    assert decoded(value_of(png(8, 8, 250)), tens).max() == 25
    assert "do not fit" in fault(value_of(png(8, 8, 255)), tens).message


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (with_size(png(8, 8, 0), 60_000, 60_000), "more than 10000 pixels"),
        (with_size(png(8, 8, 0), 100, 100), "not of the size"),
        (with_size(png(8, 8, 0), 4, 4), "not of the size"),
        (with_size(png(8, 8, 0), 0, 4), "without a size"),
        (with_size(png(8, 4_000_000, 0), 8, 8), "not of the size"),
        (png(8, 8, 0)[:-12], "is cut"),
        (png(8, 8, 0)[:-30], "is cut"),
        (png(8, 8, 0)[:20], "header is cut"),
        (b"GIF89a" + bytes(100), "no PNG, JPEG or WebP"),
        (b"", "no PNG, JPEG or WebP"),
        (b"\xff\xd8\xff", "header is cut"),
        (b"\xff\xd8\xff\xd9" + bytes(20), "without a size"),
        (b"RIFF\0\0\0\0WEBPVP8X" + bytes(4), "header is cut"),
        (b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x3f\0\xff\x3f\0", "header is cut|more than 10000 pixels"),
    ],
)
def test_files_that_are_broken_or_lie(content: bytes, told: str) -> None:
    tracemalloc.start()
    try:
        error = fault(value_of(content), ANY)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert any(part in error.message for part in told.split("|"))


def test_jpeg_and_webp_that_lie() -> None:
    jpeg = bytearray(file_of(Image.new("RGB", (16, 16)), "JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    assert "more than 10000 pixels" in fault(value_of(bytes(jpeg)), ANY).message
    assert fault(value_of(bytes(file_of(Image.new("RGB", (16, 16)), "JPEG"))[:-40]), ANY).status == 422
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    webp = bytearray(file_of(noise, "WEBP", lossless=True))
    webp[21:25] = struct.pack("<I", 99 | 99 << 14)
    assert fault(value_of(bytes(webp)), ANY).status == 422


def test_a_jpeg_of_endless_scans_is_not_begun() -> None:
    whole = file_of(gray("RGB"), "JPEG", progressive=True)
    scan = whole[whole.index(b"\xff\xda") :][:-2]
    assert "scans" in fault(value_of(whole[:-2] + scan * 200 + b"\xff\xd9"), ANY).message


def test_compressed_texts_do_not_swell() -> None:
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100_000_000)))
    content = png(8, 8, 0)
    tracemalloc.start()
    try:
        assert status(value_of(content[:33] + bomb + content[33:]), ANY) in (200, 422)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_any_flipped_bit_is_a_picture_or_refused(kind: str) -> None:
    whole = file_of(gray("RGB"), kind)
    for at in range(len(whole)):
        content = bytearray(whole)
        content[at] ^= 0xFF
        assert status(value_of(bytes(content)), ANY) in (200, 422)
        assert status(value_of(whole[:at]), ANY) == 422


def test_the_documents_show_an_image_that_works(tmp_path: Path) -> None:
    async def check() -> None:
        async with service_of(tmp_path, ["image"]) as service:
            document = (await service.client.get("/docs.json")).json()
            content = document["paths"]["/predict"]["post"]["requestBody"]["content"]
            assert {"image/png", "image/jpeg", "image/webp", "application/x-npy"} < set(content)
            for example in content["application/json"]["examples"].values():
                assert (await service.client.post("/predict", json=example["value"])).status_code == 200
            shown = document["components"]["schemas"]["Inputs"]["properties"]["image"]["examples"][0]
            picture = base64.b64decode(shown["image"])
            assert Image.open(io.BytesIO(picture)).size == (8, 8)
            assert (await post(service, picture, "image/png")).status_code == 200

    asyncio.run(check())


@pytest.mark.parametrize("least", [0.0, 0.25, -1.0])
def test_examples_of_images_are_in_the_range(least: float) -> None:
    image = ImageFile("rgb", "channels_first", 255.0)
    spec = TensorSpec("x", "float32", ("n", 3, "height", "width"), minimum=least, maximum=1, image=image)
    for body in examples([spec]).values():
        assert decoded(body["inputs"]["x"], spec).shape == (1, 3, 32, 32)
    fixed = TensorSpec("x", "uint8", (2, 8, 8, 3), image=ImageFile())
    assert decoded(examples([fixed])["images"]["inputs"]["x"], fixed).shape == (2, 8, 8, 3)


def test_malformed_requests_are_refused_with_all_libraries(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> None:
        async with service_of(tmp_path, list(INPUTS)) as service:
            for bad in malformed(list(INPUTS), 300, seed=7):
                response = await post(service, bad.content, bad.media_type)
                assert 400 <= response.status_code < 500, (bad.what, response.text)
            assert (await service.client.post("/predict", json=good(list(INPUTS)))).status_code == 200

    asyncio.run(check())
    assert "Traceback" not in caplog.text

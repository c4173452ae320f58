"""Which file formats are read here, and what to do with those that are not."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import get_args

from PIL import features

from steps.core.modalities.image.settings import Decoder

HEIC = "HEIC: pip install 'headstart[heic]', or convert to JPEG"
CONVERT = "convert to PNG or JPEG"
RAW = "RAW of a camera: export as JPEG or TIFF of 8 bits"
UNREAD: Mapping[str, str] = {
    ".heic": HEIC, ".heif": HEIC, ".hif": HEIC,
    ".avif": f"AVIF: install a Pillow that has it, or {CONVERT}",
    ".jxl": f"JPEG XL: {CONVERT}", ".jp2": f"JPEG 2000: {CONVERT}", ".j2k": f"JPEG 2000: {CONVERT}",
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf"), RAW),
    ".psd": f"Photoshop: {CONVERT}", ".svg": f"SVG: {CONVERT}", ".tga": f"TGA: {CONVERT}",
    ".exr": f"EXR: {CONVERT}", ".dcm": "DICOM: write each frame as PNG of 8 bits",
    ".npy": "NumPy: write each array as PNG", ".npz": "NumPy: write each array as PNG",
}  # fmt: skip
BRANDS = {b"heic": HEIC, b"heix": HEIC, b"heim": HEIC, b"hevc": HEIC, b"avif": UNREAD[".avif"]}
SIGNATURES = {
    b"\xff\x0a": UNREAD[".jxl"],
    b"\0\0\0\x0cJXL ": UNREAD[".jxl"],
    b"\0\0\0\x0cjP  ": UNREAD[".jp2"],
    b"8BPS": UNREAD[".psd"],
}


def decoders() -> tuple[str, ...]:
    """Return the formats whose decoders are here; Pillow would try all it has, of which one starts programs.

    JPEG XL is none of them: its plugin decodes a file before its size can be looked at.
    """
    missing = set() if features.check("avif") else {"AVIF"}
    if find_spec("pillow_heif") is None:
        missing.add("HEIF")
    else:
        from pillow_heif import register_heif_opener

        register_heif_opener(thumbnails=False)
    return tuple(name for name in get_args(Decoder) if name not in missing)


DECODERS = decoders()
ALWAYS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jfif")
BY_DECODER = {"AVIF": (".avif",), "HEIF": (".heic", ".heif", ".hif")}
endings = (*ALWAYS, *(ending for name in DECODERS for ending in BY_DECODER.get(name, ())))
unread_endings: Mapping[str, str] = {ending: way for ending, way in UNREAD.items() if ending not in endings}


def unread_format(data: bytes) -> str:
    """Return what to do with a file of a format that is known and not read; '' for any other."""
    known = next((way for mark, way in SIGNATURES.items() if data.startswith(mark)), "")
    brand = BRANDS.get(data[8:12], "") if data[4:8] == b"ftyp" else ""
    return known or (brand if brand in unread_endings.values() else "")

"""Attributes whose value is itself a template, which the PKCS#11 binding cannot write by itself."""

import ctypes
from collections.abc import Mapping
from typing import Any

from pkcs11 import Attribute
from pkcs11.attributes import AttributeMapper


class _CkAttribute(ctypes.Structure):
    """CK_ATTRIBUTE."""

    _fields_ = (("type", ctypes.c_ulong), ("value", ctypes.c_void_p), ("length", ctypes.c_ulong))


class TemplateMapper(AttributeMapper):
    """The library's attribute mapper, taught to write an attribute whose value is a template of booleans."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: list[Any] = []
        self.register_handler(Attribute.UNWRAP_TEMPLATE, self._pack, bytes)

    def _pack(self, template: Mapping[Attribute, bool]) -> bytes:
        values = (ctypes.c_ubyte * len(template))(*template.values())
        # The packed bytes point at these values, so they must live as long as the mapper's session.
        self._kept.append(values)
        start = ctypes.addressof(values)
        packed = (_CkAttribute * len(template))(
            *(_CkAttribute(int(name), start + place, 1) for place, name in enumerate(template))
        )
        return bytes(packed)

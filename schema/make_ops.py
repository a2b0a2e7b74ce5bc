#!/usr/bin/env python3
"""Writes `onnx_ops.txt`: what each operator of each operator set takes, gives and is told.

Needs the Python packages onnx 1.23.2 (the operators of ONNX) and onnxruntime 1.32.0 (those of Microsoft's domains):
`python3 schema/make_ops.py > schema/onnx_ops.txt`.

A line `@ domain newest` begins a domain. The others are operators:

    name since inputs outputs [deprecated] attribute:type...

`since` is the version of the domain's operator set that brought this form. Inputs and outputs are `least-most`, `*` for
any number. Types are i (int), f (float), s (string), t (tensor), g (graph), p (sparse tensor), y (type), as capitals for
lists of them; `!` marks attributes that have to be given.
"""

import onnx
import onnx.defs
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

LETTERS = {"INT": "i", "FLOAT": "f", "STRING": "s", "TENSOR": "t", "GRAPH": "g", "SPARSE_TENSOR": "p", "TYPE_PROTO": "y"}
ANY = 2**31 - 1
# Registered by ONNX Runtime in domains of its own; the domains' operator sets have had one version so far.
MICROSOFT = ["com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"]


def letter(attribute):
    name = str(attribute.type).rsplit(".", 1)[-1]
    if name in LETTERS:
        return LETTERS[name]
    return LETTERS[name.removesuffix("S")].upper()


def span(least, most):
    return f"{least}-{'*' if most == ANY else most}"


def line(schema):
    words = [schema.name, str(schema.since_version)]
    words += [span(schema.min_input, schema.max_input), span(schema.min_output, schema.max_output)]
    words += ["deprecated"] if schema.deprecated else []
    for name in sorted(schema.attributes):
        attribute = schema.attributes[name]
        words.append(f"{name}:{letter(attribute)}{'!' if attribute.required else ''}")
    return " ".join(words)


def write(domain, schemas, newest):
    print(f"@ {domain or 'ai.onnx'} {newest}")
    lines = {(schema.name, schema.since_version): line(schema) for schema in schemas if schema.domain == domain}
    for key in sorted(lines):
        print(lines[key])


schemas = onnx.defs.get_all_schemas_with_history()
for domain in sorted({schema.domain for schema in schemas}):
    newest = max(schema.since_version for schema in schemas if schema.domain == domain)
    write(domain, schemas, max(newest, onnx.defs.onnx_opset_version()) if domain == "" else newest)
schemas = get_all_operator_schema()
for domain in MICROSOFT:
    newest = max((schema.since_version for schema in schemas if schema.domain == domain), default=1)
    write(domain, schemas, newest)

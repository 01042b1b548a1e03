"""`pimsim schema`: the JSON schema of a device file, for editors."""

from __future__ import annotations

import json as json_module


def schema() -> None:
    """Print the JSON schema of a device file."""
    from pimsim.discovery import implementations
    from pimsim.spec.device import DeviceSpec

    tree = DeviceSpec.model_json_schema()
    units = {kind: spec.model_json_schema() for kind, spec in implementations("pimsim.units", "UNIT").items()}
    tree["$defs"] = tree.get("$defs", {}) | {f"unit_{kind}": unit for kind, unit in units.items()}
    tree["properties"]["unit"] = {"anyOf": [{"$ref": f"#/$defs/unit_{kind}"} for kind in units] + [{"type": "null"}], "default": None}
    print(json_module.dumps(tree, indent=1))


COMMAND = schema

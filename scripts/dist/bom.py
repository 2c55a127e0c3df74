"""Software bills of materials in the CycloneDX format."""

import hashlib
import uuid

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL


def bill_of_materials(graph, path, commit_time):
    """Returns the bill of materials of a zip file with the linked crates, as JSON. It is valid by CycloneDX's own schema."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    components = {crate: component(crate) for crate in graph}
    [root] = [crate for crate in graph if crate.checksum is None]
    components[root].type = ComponentType.APPLICATION
    components[root].hashes = [HashType(alg=HashAlgorithm.SHA_256, content=digest)]
    # The same zip file has the same bill of materials, so its number and time are no random ones.
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"sha256:{digest}"))
    bom.metadata.timestamp = commit_time
    bom.metadata.component = components[root]
    bom.components = [part for crate, part in components.items() if crate != root]
    for crate, needed in graph.items():
        bom.register_dependency(components[crate], [components[other] for other in sorted(needed)])
    text = JsonV1Dot6(bom).output_as_string(indent=2)
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise ValueError(f"the bill of materials of {path.name} is invalid: {error}")
    return text + "\n"


def component(crate):
    reference = PackageURL("cargo", None, crate.name, crate.version)
    return Component(
        name=crate.name, version=crate.version, type=ComponentType.LIBRARY, purl=reference, bom_ref=str(reference),
        licenses=[LicenseFactory().make_from_string(crate.licence)],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=crate.checksum)] if crate.checksum else [],
    )

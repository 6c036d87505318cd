"""All recipes, by what is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sapiens_core.recipes import sapiens1
from sapiens_core.recipes.detectors import DETECT
from sapiens_core.recipes.recipe import FamilySpec, Recipe, Task

FAMILIES: Mapping[str, FamilySpec] = sapiens1.FAMILIES
TASKS: Mapping[Task, Recipe] = MappingProxyType({**sapiens1.RECIPES, Task.DETECT: DETECT})

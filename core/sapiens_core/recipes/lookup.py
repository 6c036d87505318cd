"""All recipes, by family and task."""

from __future__ import annotations

from sapiens_core.recipes.detectors import DETECT
from sapiens_core.recipes.recipe import FamilySpec, Recipe
from sapiens_core.recipes.sapiens1 import SAPIENS
from sapiens_core.recipes.sapiens2 import SAPIENS2

FAMILIES: dict[str, FamilySpec] = {"sapiens": SAPIENS, "sapiens2": SAPIENS2}


def recipe(family: str, task: str) -> Recipe:
    """Return the recipe of a family's task.

    Args:
        family: Name of the generation; of detectors any, since all kinds of them have the same.
        task: What is predicted.

    Raises:
        ValueError: There is none.
    """
    if task == DETECT.task:
        return DETECT
    if family not in FAMILIES:
        raise ValueError(f"family must be one of {sorted(FAMILIES)}, got {family!r}")
    recipes = FAMILIES[family].recipes
    if task not in recipes:
        raise ValueError(f"task of {family} must be one of {sorted(recipes)}, got {task!r}")
    return recipes[task]


def first_recipe(task: str) -> Recipe:
    """Return the recipe of the first family that has a task: names and tensors are the same in all.

    Raises:
        ValueError: None has.
    """
    recipes = first_recipes()
    if task not in recipes:
        raise ValueError(f"task must be one of {list(recipes)}, got {task!r}")
    return recipes[task]


def first_recipes() -> dict[str, Recipe]:
    """Return `first_recipe` of every task."""
    recipes: dict[str, Recipe] = {}
    for family in FAMILIES.values():
        recipes |= {task: recipe for task, recipe in family.recipes.items() if task not in recipes}
    return {**recipes, DETECT.task: DETECT}

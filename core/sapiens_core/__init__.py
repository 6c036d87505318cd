"""What every part of Sapiens on Triton shares: recipes and pure functions on arrays."""

from importlib.util import find_spec

if find_spec("cv2") is None:
    raise ModuleNotFoundError(
        "one build of OpenCV must be there, got none; pip install 'sapiens-triton[opencv]', or opencv-python "
        "if you want its windows",
        name="cv2",
    )

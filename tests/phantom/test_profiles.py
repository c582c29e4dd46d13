import numpy as np
import pytest

from wds_bone.phantom.anatomy import Skeleton
from wds_bone.phantom.dimensions import TUBULAR
from wds_bone.phantom.maturity import APPEARS, CAPS, FADED, FULL_WIDTH, FUSED, FUSES, HALF_WIDTH
from wds_bone.phantom.parts import Tubular
from wds_bone.phantom.profiles import STEP_MM, profile_closed, profile_open
from wds_bone.phantom.radiograph import draw_mineral
from wds_bone.phantom.view import View


def bone_at(stage, name="PP3"):
    form = TUBULAR[name]
    return Tubular(name, form, 0.0, 0.0, 0.0, form.length, 1.0, stage, slant=0.0, robustness=1.0, cortex=form.cortex)


def epiphysis_width(stage):
    bone = bone_at(stage)
    return 2 * profile_open(bone).outline[: int(bone.plate / STEP_MM)].max()


@pytest.mark.parametrize("name", sorted(TUBULAR))
@pytest.mark.parametrize("stage", [APPEARS, HALF_WIDTH, FULL_WIDTH, CAPS, FUSES])
def test_a_lucent_plate_separates_epiphysis_and_shaft_until_they_fuse(name, stage):
    bone = bone_at(stage, name)
    plate = round(bone.plate / STEP_MM)
    assert profile_open(bone).outline[plate] == 0
    assert profile_open(bone).outline[:plate].max() > 0
    assert profile_closed(bone).outline[plate] > 0


def test_an_epiphysis_is_absent_at_first_and_grows_as_wide_as_its_shaft():
    shaft = TUBULAR["PP3"].growing_end
    assert epiphysis_width(0.0) == 0
    assert epiphysis_width(HALF_WIDTH) == pytest.approx(0.5 * shaft, rel=0.02)
    assert epiphysis_width(FULL_WIDTH) == pytest.approx(shaft, rel=0.06)
    assert epiphysis_width(CAPS) > epiphysis_width(FULL_WIDTH)


def test_bone_has_a_dense_wall_everywhere():
    profile = profile_open(bone_at(CAPS))
    solid = profile.outline > 1
    assert np.all(profile.core[solid] < profile.outline[solid])


def test_the_scar_of_the_plate_fades():
    bones = [bone_at(stage) for stage in (FUSED, (FUSED + FADED) / 2, FADED)]
    cores = [profile_closed(bone).core[round(bone.plate / STEP_MM)] for bone in bones]
    assert cores == sorted(cores)
    assert cores[0] < 0.5 * cores[-1]


def test_fusion_starts_in_the_middle_of_the_plate_and_ends_at_its_rims():
    middle, rim = zip(*[plate_mineral(FUSES + progress) for progress in (0.0, 0.3, 1.0)], strict=True)
    assert middle[1] > 2 * middle[0]
    assert rim[1] == pytest.approx(rim[0], rel=0.2)
    assert rim[2] > 2 * rim[1]


def plate_mineral(stage):
    """Return the mineral of one bone in the middle of its plate and near the rim."""
    bone = bone_at(stage)
    view = View(400, 8.0, 0.0, column=200.0, row=300.0)
    skeleton = Skeleton((bone,), (), (), length=46.0, forearm=0.0)
    canvas = draw_mineral(skeleton, view, seed=0)
    row = 300 - round(8 * (bone.plate + bone.adult.cup))  # the plate is curved like the joint face
    rim = 200 + round(8 * 0.75 * bone.half_width)
    return canvas[row - 1 : row + 2, 195:206].mean(), canvas[row - 1 : row + 2, rim - 2 : rim + 3].mean()

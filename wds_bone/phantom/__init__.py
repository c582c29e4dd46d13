"""Synthetic hand radiographs that depend on age and gender as published tables describe.

    hands (age, gender) -> maturity (stages) -> anatomy (mm) -> radiograph (attenuation) -> film (8 bits)

The project cannot include images of patients, so it draws its own. Like real films, they show ossification centers,
growth plates and their fusion, and the gender is needed to convert maturity to months.
"""

from wds_bone.phantom.hands import Hand, draw_hand, hand_ground_truth, synthetic_hands

__all__ = ["Hand", "draw_hand", "hand_ground_truth", "synthetic_hands"]

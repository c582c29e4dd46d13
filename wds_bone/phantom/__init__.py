"""Synthetic hand radiographs whose picture depends lawfully on age and gender.

    hands (age, gender) -> maturity (stages) -> anatomy (mm) -> radiograph (shadows) -> film (8 bits)

No patient's picture may ship with the project, so its embedded data draws its own: like real films they show
ossification centers, growth plates and their fusion, and need the gender to turn maturity into months.
"""

from wds_bone.phantom.hands import Hand, draw_hand, hand_facts, synthetic_hands

__all__ = ["Hand", "draw_hand", "hand_facts", "synthetic_hands"]

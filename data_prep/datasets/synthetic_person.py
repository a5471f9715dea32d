"""People for the synthetic faces: their traits at rest, and the action units of their expressions.

A person has proportions, skin, hair, glasses, and resting brows and mouth. An expression is made of action units (AU),
by their numbers in the Facial Action Coding System, after the prototypes of Ekman & Friesen (FACS, 1978; FACS
Investigator's Guide, 2002). People differ in the variant of an expression that they show, in its strength, and in its
asymmetry. Units and colours are as in `synthetic_drawing`.
"""
import functools
from types import SimpleNamespace

import numpy as np
from numpy.random import RandomState

from data_prep.datasets.synthetic_drawing import mix

# Action units are numbered from 1 to 27.
UNITS = 28
# The variants of each expression, of which a person shows one: {action unit: intensity}.
VARIANTS: tuple[tuple[dict[int, float], ...], ...] = (
    ({4: 1, 5: .6, 7: .7, 23: .9}, {4: .9, 7: .9, 17: .5, 23: 1},
     {4: 1, 5: .4, 7: .6, 10: .5, 23: .3, 25: .9}),
    ({4: .3, 9: 1, 10: .7, 15: .5, 17: .4}, {9: .7, 10: 1, 15: .3, 25: .6},
     {7: .5, 9: .9, 10: .5, 15: .7, 17: .8}),
    ({1: .9, 2: .6, 4: .6, 5: 1, 20: .8, 25: 1, 26: .6}, {1: .8, 2: .7, 4: .7, 5: .9, 20: 1, 25: .9}),
    ({6: .9, 12: 1, 25: 1}, {6: .6, 12: .9}, {6: 1, 12: 1, 25: 1, 26: .6}),
    ({1: .9, 4: .6, 15: .9}, {1: .8, 4: .6, 15: .8, 17: .8}, {1: 1, 4: .5, 7: .3, 15: 1}),
    ({1: 1, 2: 1, 5: .8, 25: 1, 26: 1}, {1: 1, 2: 1, 5: 1, 25: 1, 26: .3, 27: .9},
     {1: .8, 2: .9, 5: .7, 25: .8, 26: .6}),
    ({},),
)
# Trait -> (mean, deviation) of a normal distribution, clipped at two deviations.
TRAITS = {
    "face": (80, 4.5), "temple": (.95, .04), "jaw": (.84, .07), "chin": (36, 7), "chin_y": (115, 5),
    "top_y": (-80, 5), "ear_y": (12, 4), "eye_x": (34, 2.6), "eye_width": (15.5, 1.6), "eye_open": (6.8, 1.2),
    "eye_tilt": (.05, .09), "iris": (7.2, .5), "lid": (4, 1.6), "lash": (1.5, .6), "brow_y": (-22, 3),
    "brow_gap": (15, 2.5), "brow_width": (20, 2), "brow_thick": (5.4, 1.5), "brow_tilt": (-.03, .1),
    "brow_arch": (4, 2), "nose_y": (41, 3.5), "nose_width": (15, 2.3), "nose_bridge": (6, 1.2),
    "mouth_y": (73, 3), "mouth": (29, 2.8), "mouth_curve": (-.8, 2), "upper_lip": (5.5, 1.5),
    "lower_lip": (7.5, 1.8), "cheek": (.3, .3), "age": (.35, .25), "gain": (1, .17),
}
LIPS = (70, 60, 175)
SKINS = ((205, 222, 246), (180, 205, 240), (160, 190, 228), (140, 172, 214), (112, 150, 198), (85, 120, 172),
         (62, 92, 140), (48, 70, 108))
HAIRS = ((24, 24, 28), (30, 38, 52), (36, 58, 88), (54, 92, 138), (100, 160, 206), (40, 78, 160),
         (165, 168, 172))
IRISES = ((30, 48, 70), (40, 75, 110), (150, 120, 80), (110, 130, 90), (120, 115, 105), (30, 40, 55))
RIMS = ((30, 30, 34), (40, 52, 90), (120, 120, 125))
STYLES_OF = (("bald", "buzz", "short", "short", "side", "fringe", "receding", "curly"),
             ("side", "fringe", "bun", "curly", "bob", "long"))


@functools.lru_cache(maxsize=64)
def person(seed: int, subject: int) -> SimpleNamespace:
    """A person: a number for each of TRAITS, and the other attributes that are set below. subject: index from 0. The
    same arguments always give the same person."""
    rng = RandomState([seed, subject])
    traits = SimpleNamespace(**{trait: mean + deviation * np.clip(rng.normal(), -2, 2)
                                for trait, (mean, deviation) in TRAITS.items()})
    woman, tone = rng.randint(2), rng.uniform(0, len(SKINS) - 1)
    traits.age = np.clip(traits.age, 0, 1)
    traits.skin = mix(SKINS[int(tone)], SKINS[int(tone) + 1], tone % 1)
    traits.lips = mix(traits.skin, LIPS, rng.uniform(.2, .38) + .25 * woman)
    grey = traits.age > .65 and rng.uniform() < .6
    traits.hair = np.array(HAIRS[6 if grey else rng.randint(2 if tone > 4 else 6)])
    traits.iris_colour = IRISES[5 * rng.randint(2) if tone > 4 else rng.randint(5)]
    traits.style = STYLES_OF[woman][rng.randint(len(STYLES_OF[woman]))]
    traits.beard = "" if woman else ("", "stubble", "moustache", "full")[rng.choice(4, p=(.45, .2, .15, .2))]
    traits.glasses = ("", "", "", "square", "round")[rng.randint(5)]
    traits.rim = RIMS[rng.randint(len(RIMS))]
    if woman:
        traits.brow_thick *= .75
        traits.lash += 1
        traits.jaw -= .05
    traits.backdrop, traits.shirt = rng.uniform(60, 215) + rng.normal(0, 14, 3), rng.uniform(25, 220, 3)
    traits.parting = rng.choice((-1, 1))
    traits.strands = rng.uniform(0, 1, (4, 70))
    traits.freckles = rng.uniform(-1, 1, (24, 2)) if rng.uniform() < .25 else ()
    traits.variants = [variants[rng.randint(len(variants))] for variants in VARIANTS]
    # The strength of each action unit, and its asymmetry: (2, UNITS).
    traits.answers = (traits.gain * np.clip(rng.normal(1, .22, UNITS), .5, 1.4)
                      * np.clip(rng.normal(1, .08, (2, UNITS)), .8, 1.2))
    return traits


def action_units(person: SimpleNamespace, expression: int, intensity: float, sequence: RandomState,
                 instant: RandomState) -> np.ndarray:
    """The intensity of each action unit, by its number, on each side: float64 (2, UNITS).

    expression: index from 0; intensity: of the expression, from 0 to 1; sequence, instant: random generators of the
    sequence and of the frame.
    """
    units = np.zeros((2, UNITS))
    for unit, strength in person.variants[expression].items():
        units[:, unit] = strength
    # Nobody holds quite still: all units move a little, all the time.
    idle = np.abs(sequence.normal(0, .07, UNITS)) + np.abs(instant.normal(0, .02, UNITS))
    idle[25:] *= .3
    return np.clip(units * person.answers * intensity * sequence.normal(1, .08) + idle, 0, 1.25)

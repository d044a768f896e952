import matplotlib.pyplot as plt

import placeformer as pf

model = pf.load("nmda-a10")  # a trained network, from the installed package
maps = pf.rate_maps(pf.record(model, layers="ffn.1"))  # it walks on a map that it knows
fields = pf.place_fields(maps)
best = pf.place_cell_score(maps, negatives="shift").fillna(0).argsort()[-3:]

fig, axes = plt.subplots(1, 3, figsize=(9.5, 2.7), layout="constrained")
for unit, ax in zip(best, axes, strict=True):
    pf.plot.place_fields(maps, fields, unit, ax=ax)
plt.show()

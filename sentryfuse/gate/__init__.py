"""Which sensors are present -> how important every unit is.

`gate` is the network (torch), `saliency` its teacher (torch), `memory` fits it to all it was taught (torch),
`predict` the trained gate in numpy. Import from the files: the device must not load torch by accident.
"""

"""The images of the containers: what they are built from, how they are named, and how the engine gets them.

`context` reads what an image is built from, and names it. `image_builder` makes sure that the engine has it,
starting from a `base_image` that is pulled, or made from `debian` packages. Below it: `docker` (the engine),
`plan` and `config`. Above it: `cluster`, which starts containers from the images, `manager`, and `cli`, which
draws the progress of a build.
"""

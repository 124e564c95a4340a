"""The browser face: SOFASegmentLib on real Slicer views, for people without a Slicer at hand.

`sofa view` starts a gateway. It lets in whoever has its token, keeps one engine process for all, and starts a process
with a scene of its own for each visitor, which it ends when the visitor is gone::

    browser -> gateway (token, who is whose) -> visitor process (scene, views, page) -> engine process (the model)

gateway, proxy, visitors, engine_host   in the gateway's process; none of them imports slicer
visitor, workspace, views, transfer     in a visitor's process: its scene and files
logic, ui                               what the page does, and what it looks like; the same names in both
"""

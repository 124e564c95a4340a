"""Results as downloads."""

from __future__ import annotations

from trame.widgets import html
from trame.widgets import vuetify3 as v


def export_section() -> None:
    """Build the panel."""
    with v.VExpansionPanel(title="Export"), v.VExpansionPanelText():
        v.VSelect(
            v_model=("scheme",),
            items=(
                "[{ title: 'BraTS 2020: 1, 2, 4', value: '2020' }, { title: 'BraTS 2023: 1, 2, 3', value: '2023' }]",
            ),
            label="Label values",
            density="compact",
            hide_details=True,
            variant="outlined",
            classes="mb-3",
        )
        with html.Div(classes="d-flex flex-wrap ga-2"):
            for title, address in (
                ("NIfTI", "`download/labels?scheme=${scheme}`"),
                ("Report", "`download/report?scheme=${scheme}`"),
                ("Report (JSON)", "'download/facts'"),
                ("Boxes", "'download/boxes'"),
            ):
                v.VBtn(
                    title,
                    size="small",
                    variant="tonal",
                    prepend_icon="mdi-download",
                    disabled=("phase !== 'ready'",),
                    raw_attrs=[f':data-sofa-download="{address}"'],
                )

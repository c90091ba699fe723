"""Global second-order pooling in other people's code."""

from __future__ import annotations

from .record import Reference

REFERENCES = (
    Reference(
        "ZilinGao/Global-Second-order-Pooling-Convolutional-Networks:Bottleneck.chan_att",
        lambda channels, att_dim=128, dr_stride=None: dict(
            channels=channels, hidden_dim=att_dim, stride=dr_stride
        ),
        {
            "conv_for_DR": "reduce",
            "bn_for_DR": "norm",
            "row_bn": "norm_rows",
            "row_conv_group": "read_rows",
            "fc_adapt_channels": "expand",
        },
        map="b c 1 1",
    ),
    Reference(
        "ZilinGao/Global-Second-order-Pooling-Convolutional-Networks:Bottleneck.pos_att",
        lambda channels, att_dim=128, sp_h=8, sp_w=8: dict(
            channels=channels, hidden_dim=att_dim, form="position", grid_size=(sp_h, sp_w)
        ),
        {
            "conv_for_DR_spatial": "reduce",
            "bn_for_DR_spatial": "norm",
            "row_bn_for_spatial": "norm_rows",
            "row_conv_group_for_spatial": "read_rows",
            "fc_adapt_channels_for_spatial": "expand",
        },
        map="b m 1 1",
    ),
)

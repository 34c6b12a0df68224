"""Keep realtime aggregates current: hear that events became readable and refresh what reads them."""

"""Pictures of what a trained net makes of images it has not learned from: truth and prediction laid over each photograph."""
from __future__ import division, print_function

import os

import numpy as np

import score
import segfiles
import vis

MOST = 8        # rows of the page that shows several
TITLES = ('photograph', 'truth', 'prediction', '')


def write(run):
    """Write pictures of the scored images of a Run (see training.py) whose net has one task, by its best weights.

    In the run's folder, pictures/<id>.png has the class indices, pictures/<id>_overlay.png photograph, truth and prediction
    side by side with a legend, and pictures.png some of the latter, from the best scored to the worst.
    """
    net = run.solver.test_nets[0]
    net.share_with(run.solver.net)
    net.copy_from(run.path('best.caffemodel'))
    layer = next(layer for layer in net.layers if hasattr(layer, 'indices'))
    names, palette, ranked = run.names.get(run.tasks[0].name, ()), vis.make_palette(256), []
    for name, (scored,) in score.each_image(net, run.ids, run.tasks):
        truth = net.blobs[run.tasks[0].label].data[0, 0].astype(np.uint8)
        seg = scored.prediction.astype(np.uint8)
        found = np.union1d(truth, seg)
        vis.save_indexed(run.path(os.path.join('pictures', name + '.png')), seg)
        vis.save_atomic(vis.grid([row(layer, name, truth, seg, palette) + [vis.legend(found, names, palette)]], TITLES),
                        run.path(os.path.join('pictures', name + '_overlay.png')))
        mean_iu = score.image_figures(scored.hist, scored.loss)['mean_iu']
        ranked.append((0. if mean_iu is None else mean_iu, name))
    ranked.sort(key=lambda entry: (-entry[0], entry[1]))
    shown = [ranked[int(i + 0.5)][1] for i in np.linspace(0, len(ranked) - 1, min(MOST, len(ranked)))]
    page = []
    for name in shown:
        truth = layer.load(name)[layer.tops.index('label')][0]
        seg = segfiles.read_label(run.path(os.path.join('pictures', name + '.png')))
        page.append(row(layer, name, truth, seg, palette) + [None])
    page[0][3] = vis.legend(range(len(names)), names, palette)
    vis.save_atomic(vis.grid(page, TITLES), run.path('pictures.png'))
    print('pictures: %s, from the best to the worst; all %d in %s'
          % (os.path.abspath(run.path('pictures.png')), len(ranked), os.path.abspath(run.path('pictures'))))


def row(layer, name, truth, seg, palette):
    """[photograph, truth over it, prediction over it], uint8 [H, W, 3] each."""
    photo = np.array(segfiles.read_image(layer.file('data', name)))
    return [photo, vis.vis_seg(photo, truth, palette), vis.vis_seg(photo, seg, palette)]

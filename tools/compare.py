"""Two sets of weights of one net side by side: ours against a released caffemodel, or a training against another.

    python tools/compare.py voc-fcn8s/run/voc fcn8s-heavy-pascal.caffemodel      # a run, its best weights, and a file
    python tools/compare.py voc-fcn8s ours.caffemodel theirs.caffemodel --images 0
    python tools/compare.py voc-fcn8s ours.caffemodel theirs.caffemodel --photos FOLDER

Compared are the definitions (theirs is in their file, ours is the prototxt), the parameters blob by blob, and what both
make of images: score maps, predictions, and the figures of both where there are labels. Ends with a verdict, beside what
is published where all images of the list are compared. Writes compare.txt, compare.json and compare.html.
"""
from __future__ import division, print_function

import argparse
import os
import sys
import tempfile

import numpy as np

import baseweights
import caffemodel
import comparison
import infer
import inputs
import netdiff
import parts
import prototxt
import published
import recipe
import score
import segfiles
import subject
import surgery
import vis
from which_caffe import WHICH, caffe, describe
from caffe.proto import caffe_pb2

SHOWN = 6       # images that are shown, those that agree least


# -- parameters --------------------------------------------------------------------------------------------------------
def parameters(path, net):
    """(layer name, arrays) of a weights file. net: prototxt to read HDF5 through, which only a Caffe can read."""
    if not subject.is_hdf5(path):
        return [(layer.name, layer.blobs) for layer in caffemodel.read(path) if layer.blobs]
    held = caffe.Net(net, caffe.TEST)
    held.copy_from(path)
    return [(name, [blob.data for blob in blobs]) for name, blobs in held.params.items()]


def definitions(net_param, theirs):
    """(Differences of the layers, those of the data layers), or None if the file carries no definition."""
    if subject.is_hdf5(theirs):
        return None
    other = netdiff.definition_of(theirs)
    data = set(layer[0] for layer in netdiff.described(net_param).items() if not layer[1][1])
    data |= set(layer[0] for layer in netdiff.described(other).items() if layer[1][1] == [])
    found = netdiff.definitions(net_param, other)
    return [d for d in found if d.layer not in data], [d for d in found if d.layer in data]


# -- images ------------------------------------------------------------------------------------------------------------
def listed_images(nets, places, tasks):
    """Images of the list that two nets read: (id, photograph, {task: truth or None}), yielded after both forwards."""
    for place in places:
        for net in nets:
            name, layer = subject.show(net, int(place))
        yield name, subject.photograph(nets[0], layer, name), dict(
            (task.name, nets[0].blobs[task.label].data[0, 0].astype(np.uint8)) for task in tasks)


def photos(nets, paths, tasks, read):
    """Photographs, without truth: as `listed_images`. read: makes float32 [C, H, W] of a file, as nets are fed."""
    for path in infer.listed(paths):
        image, data = segfiles.read_image(path), read(path)
        for net in nets:
            net.blobs['data'].reshape(1, *data.shape)
            net.blobs['data'].data[...] = data
            net.forward()
        yield os.path.basename(path), np.array(image), dict((task.name, None) for task in tasks)


def compared(nets, images, tasks, folder):
    """What two nets make of images: a dictionary for each task, and pictures of where they agree least in `folder`.

    agreement: share of pixels with the same prediction; between: int64 [C, C], row = ours, column = theirs; hists: of ours
    and of theirs against the truth, or None; max_difference, mean_difference of the scores and the max_score of theirs;
    images: (id, agreement) pairs; pictures.
    """
    found = [dict(task=task.name, between=0, hists=None, max_difference=0., mean_difference=0., max_score=0., images=[],
                  pictures=[]) for task in tasks]
    kept = [[] for _ in tasks]
    for name, image, truths in images:
        for task, of, shown in zip(tasks, found, kept):
            ours, theirs = [net.blobs[task.score].data[0] for net in nets]
            classes, predictions = len(ours), [scores.argmax(0).astype(np.uint8) for scores in (ours, theirs)]
            same = predictions[0] == predictions[1]
            of['between'] = of['between'] + score.fast_hist(predictions[0].ravel(), predictions[1].ravel(), classes)
            difference = np.abs(ours - theirs)
            of['max_difference'] = max(of['max_difference'], float(difference.max()))
            of['mean_difference'] += float(difference.mean(dtype=np.float64))
            of['max_score'] = max(of['max_score'], float(np.abs(theirs).max()))
            of['images'].append((name, float(same.mean())))
            truth = truths[task.name]
            if truth is not None:
                segfiles.check_label(truth, classes, name)
                of['hists'] = [hist + score.fast_hist(truth.ravel(), prediction.ravel(), classes)
                               for hist, prediction in zip(of['hists'] or [0, 0], predictions)]
            shown.append((float(same.mean()), name, image, truth, predictions))
            shown.sort(key=lambda entry: entry[:2])
            del shown[SHOWN:]       # those that agree least; no more are held than are shown
    for of, shown in zip(found, kept):
        of['mean_difference'] /= max(len(of['images']), 1)
        of['agreement'] = float(np.trace(of['between']) / max(of['between'].sum(), 1))
        of['pictures'] = [draw(folder, of['task'], i, *entry) for i, entry in enumerate(shown) if entry[0] < 1]
    return found


def draw(folder, task, i, agreement, name, image, truth, predictions):
    """Draw an image, its truth, both predictions, and in red where they differ."""
    stem, files = 'pictures/%s-%d-' % (task, i), []
    gray = np.repeat(image.mean(2, keepdims=True) * .6 + 70, 3, 2)
    gray[predictions[0] != predictions[1]] = (225, 50, 40)
    pictures = [('image', image)] + ([('truth', subject.laid_over(image, truth))] if truth is not None else [])
    pictures += [('ours', subject.laid_over(image, predictions[0])), ('theirs', subject.laid_over(image, predictions[1])),
                 ('differ', gray)]
    for which, picture in pictures:
        vis.save_atomic(subject.fitted(picture), os.path.join(folder, stem + which + '.jpg'))
        files.append([which, stem + which + '.jpg'])
    held = [predictions[0], predictions[1]] + ([truth] if truth is not None else [])
    return {'id': name, 'agreement': agreement, 'files': files,
            'classes': sorted(set(int(c) for seg in held for c in np.unique(seg)))}


# -- the whole ---------------------------------------------------------------------------------------------------------
def compare(ours, theirs, out, count=20, photo_paths=()):
    """Compare the weights of a Subject with those of the file `theirs`; returns the folder written to.

    count: how many images of the net's list, 0 for all. The working directory must be the experiment's.
    """
    net_param = prototxt.read(ours.net, caffe_pb2.NetParameter())
    result = {'net': ours.net, 'experiment': ours.experiment, 'variant': ours.variant, 'caffe': WHICH,
              'version': getattr(caffe, '__version__', None),
              'files': [{'weights': path, 'sha256': baseweights.sha256(path)} for path in (ours.weights, theirs)]}
    differ = definitions(net_param, theirs)
    result['trained'] = [ours.trained, subject.trained(theirs)]
    result['definitions'] = differ and [[d._asdict() for d in side] for side in differ]
    blobs = netdiff.parameters(parameters(ours.weights, ours.net), parameters(theirs, ours.net))
    result['parameters'] = [blob._asdict() for blob in blobs]
    result['tasks'], result['not_compared'], result['of'] = [], None, None
    try:
        tasks, result['of'], nets, images = prepared(ours, net_param, theirs, count, photo_paths)
    except (subject.SubjectError, surgery.SurgeryError, EnvironmentError) as error:     # nor is the data set everywhere
        result['not_compared'] = str(error)
    else:
        result['tasks'] = compared(nets, images, tasks, out)
        names = subject.class_names(nets[0].layers, tasks, ours.experiment)
        for of in result['tasks']:
            of['classes'] = list(names.get(of['task'], ()))
    labelled = result['tasks'] and result['tasks'][0]['hists']
    result['published'] = [beside(result, i, published.find(ours.experiment, ours.variant, *trained),
                                  i == 1 and published.is_released(theirs, ours.folder))
                           for i, trained in enumerate(result['trained'])] if labelled else []
    for of in result['tasks']:
        of['figures'] = of['hists'] and [score.metrics(hist) for hist in of['hists']]
    result['verdict'] = comparison.verdict(result)
    comparison.write(out, result)
    return out


def beside(result, i, known, same_weights):
    """The verdicts on what is published beside the figures of ours (i = 0) or theirs (1), as dictionaries."""
    figures = published.figures_of(dict((of['task'], of['hists'][i]) for of in result['tasks']), known)
    return [v._asdict() for v in published.verdicts(known, figures, len(result['tasks'][0]['images']), same_weights)]


def prepared(ours, net_param, theirs, count, photo_paths):
    """(tasks, how many images the list has or None, the two nets, the images: see `listed_images`)."""
    reads_data = any(not layer.bottom and layer.type != 'Input' for layer in net_param.layer)
    if photo_paths:
        plan = inputs.plan_of(ours.net, ['data']) or inputs.alone() if reads_data else inputs.plan(ours.net)
        print('data: %s' % plan.feeds[0].said)
        tasks = plan.tasks
        folder = tempfile.mkdtemp()
        path = os.path.join(folder, 'deploy.prototxt')
        prototxt.write(path, parts.deploy(net_param) if reads_data else net_param)
        nets = [subject.load(path, weights) for weights in (ours.weights, theirs)]
        os.remove(path)
        os.rmdir(folder)
        if list(nets[0].inputs) != ['data'] or tasks[0].score not in nets[0].blobs:
            raise subject.SubjectError('%s: the inputs are %s; photographs can be shown to a net with the one input "data" '
                                       'and a blob "%s"' % (ours.net, ', '.join(nets[0].inputs), tasks[0].score))
        return tasks, None, nets, photos(nets, photo_paths, tasks, plan.feeds[0].read)
    if not reads_data:
        raise subject.SubjectError('%s reads no images of its own: name some with --photos' % ours.net)
    _, tasks = subject.tasks_of(ours.net)
    nets = [subject.load(ours.net, weights) for weights in (ours.weights, theirs)]
    total = len(subject.ids(nets[0], ours.net))
    places = np.unique(np.linspace(0, total - 1, min(count or total, total)).astype(int))   # evenly spread
    return tasks, total, nets, listed_images(nets, places, tasks)


def main(arguments=None):
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('what', help='folder of an experiment or of a run, or a prototxt')
    parser.add_argument('weights', nargs='+', help='[ours] theirs: caffemodels of any format, or runs, of which the best; '
                        'ours may be left out for a run')
    parser.add_argument('--variant', help='of an experiment that has several nets')
    parser.add_argument('--images', type=int, default=20, metavar='N', help='how many of the list; 0: all (default 20)')
    parser.add_argument('--photos', nargs='+', default=[], metavar='IMAGE', help='image files or folders, without labels')
    parser.add_argument('--gpu', type=int, help='number of the GPU; without one, the CPU')
    parser.add_argument('--out', help='folder to write to')
    options = parser.parse_args(arguments)
    try:
        if len(options.weights) > 2:
            raise ValueError('%d weights; wanted ours and theirs, or theirs alone for a run' % len(options.weights))
        if options.images < 0:
            raise ValueError('--images is %d; wanted a number of images, or 0 for all' % options.images)
        given = [os.path.join(path, 'best.caffemodel') if os.path.isdir(path) else path for path in options.weights]
        ours = subject.find(options.what, given[0] if len(given) > 1 else None, options.variant)
        theirs = subject.find(ours.net, given[-1]).weights
        stems = [os.path.splitext(os.path.basename(path))[0] for path in (ours.weights, theirs)]
        out = os.path.abspath(options.out or (os.path.join(ours.run, 'compare-' + stems[1]) if ours.run else
                                              os.path.join(ours.folder, 'run', 'compare-%s-%s' % tuple(stems))))
        photo_paths = [os.path.abspath(path) for path in options.photos]
        os.chdir(ours.folder)
        print(describe(recipe.use_device(options.gpu)))
        segfiles.make_folder(out)
        compare(ours, theirs, out, options.images, photo_paths)
    except KeyboardInterrupt:
        return 130
    except (ValueError, EnvironmentError, RuntimeError) as error:   # the embedded Caffe's errors are RuntimeErrors
        print('compare.py: %s' % error, file=sys.stderr)
        return 1
    with open(os.path.join(out, 'compare.txt')) as f:
        print(f.read())
    print('report: %s' % os.path.join(out, 'compare.html'))
    return 0


if __name__ == '__main__':
    caffe.init_log(1, True)     # warnings and errors; what it says of each layer is no news here
    sys.exit(main())
